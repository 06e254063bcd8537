"""The peers' models: torchvision's ResNet-18 and the small CNN under the same key names as cairn's."""
import torch
import torchvision


def model_cnn(classes: int, image_size: int, dropout: bool = True) -> torch.nn.Module:
    nn = torch.nn
    side = image_size // 8
    block, head = (0.25, 0.5) if dropout else (0.0, 0.0)

    class ModelCNN(nn.Module):
        def __init__(self):
            super().__init__()
            layers, channels = [], 3
            for width in (32, 64, 128):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(block)]
                channels = width
            self.features = nn.Sequential(*layers)
            self.classifier = nn.Sequential(
                nn.Flatten(), nn.Linear(128 * side * side, 512), nn.ReLU(), nn.Dropout(head), nn.Linear(512, classes)
            )

        def forward(self, x):
            return self.classifier(self.features(x))

    return ModelCNN()


class ResNetClasses(torch.nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.net = torchvision.models.resnet18(num_classes=classes)
        # As cairn starts it: a positive bias keeps the ReLU behind the head alive.
        torch.nn.init.ones_(self.net.fc.bias)

    def forward(self, x):
        return torch.relu(self.net(x))


def make_model(name: str, classes: int, image_size: int) -> torch.nn.Module:
    if name == "model_cnn":
        return model_cnn(classes, image_size)
    if name == "resnet18":
        return torchvision.models.resnet18(num_classes=classes)
    if name == "resnet_classes":
        return ResNetClasses(classes)
    raise SystemExit(f"unknown model {name}")
