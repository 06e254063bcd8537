#include "engine/io/pickle.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "engine/io/stored.h"

namespace cairn::io::pickle {
namespace {

constexpr std::array<std::pair<std::string_view, DType>, 7> kStorages{{
    {"torch FloatStorage", DType::f32},
    {"torch DoubleStorage", DType::f64},
    {"torch HalfStorage", DType::f16},
    {"torch BFloat16Storage", DType::bf16},
    {"torch ByteStorage", DType::u8},
    {"torch IntStorage", DType::i32},
    {"torch LongStorage", DType::i64},
}};
constexpr std::string_view kOrderedDict = "collections OrderedDict";
constexpr std::string_view kTensor = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view kParameter = "torch._utils _rebuild_parameter";

/// Python's pickle opcodes (Lib/pickletools.py), those that a state dict can hold.
enum Op : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kPersistentId = 'Q',
  kReduce = 'R',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyList = ']',
  kEmptyTuple = ')',
  kBinFloat = 'G',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kTrue = 0x88,
  kFalse = 0x89,
  kLong1 = 0x8a,
  kShortBinUnicode = 0x8c,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

class Machine {
 public:
  Machine(const InputFile& file, const std::vector<std::uint8_t>& bytes) : file_(file), bytes_(bytes) {}

  Document run() {
    while (step(static_cast<Op>(number(1)))) {
    }
    return std::move(document_);
  }

 private:
  [[noreturn]] void damaged() const { file_.fail("its data.pkl is damaged"); }
  [[noreturn]] void refuse(const std::string& what) const {
    file_.fail(
        "its data.pkl wants " + what +
        ", which is more than tensors and is not run; save torch.save(model.state_dict(), ...) instead");
  }

  std::uint64_t number(std::size_t width) {
    if (bytes_.size() - at_ < width) damaged();
    std::uint64_t v = 0;
    for (std::size_t i = width; i-- > 0;) v = v << 8 | bytes_[at_ + i];
    at_ += width;
    return v;
  }
  std::string text(std::uint64_t n) {
    if (bytes_.size() - at_ < n) damaged();
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(at_);
    at_ += n;
    return {begin, begin + static_cast<std::ptrdiff_t>(n)};
  }
  std::string line() {
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(at_);
    const auto end = std::find(begin, bytes_.end(), '\n');
    if (end == bytes_.end()) damaged();
    at_ += static_cast<std::size_t>(end - begin) + 1;
    return {begin, end};
  }

  Value& push(Kind kind) {
    Value& v = document_.values.emplace_back();
    v.kind = kind;
    stack_.push_back(&v);
    return v;
  }
  void push_integer(std::int64_t i) { push(Kind::integer).integer = i; }
  Value* pop() {
    // What lies under the innermost mark is not this opcode's to take.
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) damaged();
    Value* v = stack_.back();
    stack_.pop_back();
    return v;
  }
  Value& top(Kind kind) {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back()) || stack_.back()->kind != kind) damaged();
    return *stack_.back();
  }
  std::vector<Value*> pop_to_mark() {
    if (marks_.empty()) damaged();
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<Value*> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_tuple(std::vector<Value*> items) { push(Kind::tuple).items = std::move(items); }
  void push_last(std::size_t n) {
    std::vector<Value*> items(n);
    for (std::size_t i = n; i-- > 0;) items[i] = pop();
    push_tuple(std::move(items));
  }
  void set_items(const std::vector<Value*>& items) {
    if (items.size() % 2 != 0) damaged();
    Value& dict = top(Kind::dict);
    for (std::size_t i = 0; i < items.size(); i += 2) dict.entries.emplace_back(items[i], items[i + 1]);
  }
  void append(const std::vector<Value*>& items) {
    Value& list = top(Kind::list);
    list.items.insert(list.items.end(), items.begin(), items.end());
  }
  void put(std::uint64_t index) {
    if (stack_.empty()) damaged();
    memo_[index] = stack_.back();
  }
  void get(std::uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) damaged();
    stack_.push_back(found->second);
  }

  static std::optional<DType> storage_dtype(std::string_view global) {
    const auto found =
        std::find_if(kStorages.begin(), kStorages.end(), [&](const auto& s) { return s.first == global; });
    if (found == kStorages.end()) return std::nullopt;
    return found->second;
  }
  void push_global(const std::string& module, const std::string& name) {
    std::string global = module + ' ' + name;
    if (global != kOrderedDict && global != kTensor && global != kParameter && !storage_dtype(global))
      refuse(in_quotes(module + '.' + name));
    push(Kind::global).text = std::move(global);
  }

  /// ('storage', torch.FloatStorage, key, device, elements)
  void persistent_id() {
    const Value& id = *pop();
    if (id.kind != Kind::tuple || id.items.size() != 5 || id.items[0]->text != "storage" ||
        id.items[1]->kind != Kind::global || id.items[2]->kind != Kind::text ||
        id.items[4]->kind != Kind::integer || id.items[4]->integer < 0)
      damaged();
    constexpr std::size_t kMaxKey = 64;  // a number; it is copied for each tensor
    if (id.items[2]->text.size() > kMaxKey) damaged();
    const auto dtype = storage_dtype(id.items[1]->text);
    if (!dtype) damaged();
    push(Kind::storage).storage = {*dtype, id.items[2]->text,
                                   static_cast<std::uint64_t>(id.items[4]->integer)};
  }

  std::vector<std::int64_t> counts(const Value& tuple) const {
    // It is copied for each tensor that names it.
    constexpr std::size_t kMaxAxes = 64;
    if (tuple.kind != Kind::tuple || tuple.items.size() > kMaxAxes) damaged();
    std::vector<std::int64_t> result;
    for (const Value* v : tuple.items) {
      if (v->kind != Kind::integer || v->integer < 0) damaged();
      result.push_back(v->integer);
    }
    return result;
  }

  void reduce() {
    const Value& arguments = *pop();
    const Value& function = *pop();
    if (function.kind != Kind::global || arguments.kind != Kind::tuple) damaged();
    const std::vector<Value*>& a = arguments.items;
    if (function.text == kOrderedDict && a.empty()) {
      push(Kind::dict);
    } else if (function.text == kTensor && a.size() >= 4 && a[0]->kind == Kind::storage &&
               a[1]->kind == Kind::integer && a[1]->integer >= 0) {
      Value& tensor = push(Kind::tensor);
      tensor.storage = a[0]->storage;
      tensor.offset = a[1]->integer;
      tensor.size = counts(*a[2]);
      tensor.stride = counts(*a[3]);
      if (tensor.size.size() != tensor.stride.size()) damaged();
    } else if (function.text == kParameter && !a.empty() && a[0]->kind == Kind::tensor) {
      stack_.push_back(a[0]);
    } else {
      refuse("a call of '" + function.text + "' with unknown arguments");
    }
  }

  bool step(Op op) {
    switch (op) {
      case kStop:
        document_.root = pop();
        return false;
      case kProto:
        if (number(1) > 5) damaged();
        break;
      case kFrame:
        number(8);
        break;
      case kMark:
        marks_.push_back(stack_.size());
        break;
      case kPop:
        pop();
        break;
      case kNone:
      case kTrue:
      case kFalse:
        push(Kind::other);
        break;
      case kBinFloat:
        number(8);
        push(Kind::other);
        break;
      case kBinInt:
        push_integer(static_cast<std::int32_t>(number(4)));
        break;
      case kBinInt1:
        push_integer(static_cast<std::int64_t>(number(1)));
        break;
      case kBinInt2:
        push_integer(static_cast<std::int64_t>(number(2)));
        break;
      case kLong1:
        push_integer(long_integer(number(1)));
        break;
      case kBinUnicode: {
        const std::uint64_t n = number(4);
        push(Kind::text).text = text(n);
        break;
      }
      case kShortBinUnicode: {
        const std::uint64_t n = number(1);
        push(Kind::text).text = text(n);
        break;
      }
      case kEmptyDict:
        push(Kind::dict);
        break;
      case kEmptyList:
        push(Kind::list);
        break;
      case kEmptyTuple:
        push(Kind::tuple);
        break;
      case kTuple1:
        push_last(1);
        break;
      case kTuple2:
        push_last(2);
        break;
      case kTuple3:
        push_last(3);
        break;
      case kTuple:
        push_tuple(pop_to_mark());
        break;
      case kSetItem: {
        Value* value = pop();
        Value* key = pop();
        set_items({key, value});
        break;
      }
      case kSetItems:
        set_items(pop_to_mark());
        break;
      case kAppend:
        append({pop()});
        break;
      case kAppends:
        append(pop_to_mark());
        break;
      case kBinPut:
        put(number(1));
        break;
      case kLongBinPut:
        put(number(4));
        break;
      case kMemoize:
        put(memo_.size());
        break;
      case kBinGet:
        get(number(1));
        break;
      case kLongBinGet:
        get(number(4));
        break;
      case kGlobal: {
        const std::string module = line();
        push_global(module, line());
        break;
      }
      case kStackGlobal: {
        const Value* name = pop();
        const Value* module = pop();
        push_global(module->text, name->text);
        break;
      }
      case kPersistentId:
        persistent_id();
        break;
      case kReduce:
        reduce();
        break;
      case kBuild:  // the state dict's _metadata: of no use here
        pop();
        top(Kind::dict);
        break;
      default: {
        char code[8];
        std::snprintf(code, sizeof code, "0x%02x", static_cast<unsigned>(op));
        refuse("pickle opcode " + std::string(code));
      }
    }
    return true;
  }

  std::int64_t long_integer(std::uint64_t width) {
    if (width > 8) damaged();
    const std::uint64_t v = number(width);
    const bool negative = width > 0 && width < 8 && (v >> (8 * width - 1)) != 0;
    return static_cast<std::int64_t>(negative ? v | ~std::uint64_t{0} << (8 * width) : v);
  }

  const InputFile& file_;
  const std::vector<std::uint8_t>& bytes_;
  std::size_t at_ = 0;
  Document document_;
  std::vector<Value*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, Value*> memo_;
};

}  // namespace

Document parse(const InputFile& file, const std::vector<std::uint8_t>& bytes) {
  return Machine(file, bytes).run();
}

}  // namespace cairn::io::pickle
