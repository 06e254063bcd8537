#include "apps/serve/page.h"

namespace cairn::app {
namespace {

constexpr std::string_view kPage = R"HTML(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>cairn: what is on this photo?</title>
<link rel="icon" href="data:,">
<style nonce="@NONCE@">
:root{color-scheme:light dark;--accent:#2a7de1;--line:#8886;--quiet:#8882;--bad:#c5352b}
@media (prefers-color-scheme:dark){:root{--accent:#6cb0ff;--bad:#ff8a80}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}
#about{opacity:.75;margin:.2rem 0 1.2rem}
#drop{display:block;border:2px dashed var(--line);border-radius:.8rem;padding:2.2rem 1rem;text-align:center;cursor:pointer}
#drop:hover,#drop.over{border-color:var(--accent);background:var(--quiet)}
#drop:focus-within{outline:3px solid var(--accent);outline-offset:3px}
#drop b{color:var(--accent)}
#file{position:absolute;opacity:0;width:1px;height:1px}
article{display:flex;gap:1.2rem;border:1px solid var(--line);border-radius:.8rem;padding:1rem;margin-top:1rem}
article img{width:14rem;height:14rem;object-fit:contain;background:var(--quiet);border-radius:.4rem;flex:none}
.answer{flex:1;min-width:0}
.name{opacity:.75;font-size:.85rem;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.best{font-size:1.4rem;font-weight:600;margin:.1rem 0 .7rem;overflow-wrap:anywhere}
.row{display:grid;grid-template-columns:1fr auto;column-gap:.8rem;margin-bottom:.5rem}
.row span{overflow-wrap:anywhere}
.track{grid-column:1/3;height:.5rem;background:var(--quiet);border-radius:.25rem;overflow:hidden}
.fill{height:100%;background:var(--accent)}
.number{font-variant-numeric:tabular-nums}
.error{color:var(--bad)}
@media (max-width:36rem){
body{margin:1rem auto}
article{flex-direction:column}
article img{width:100%;height:auto;max-height:18rem}
}
</style>
</head>
<body>
<h1>What is on this photo?</h1>
<p id="about">&nbsp;</p>
<label id="drop"><input id="file" type="file" accept="image/*" multiple>
<b>Choose photos</b>, drop them here, or paste one.<br><small>They go to this service alone and are not kept.</small></label>
<main id="answers" aria-live="polite"></main>
<noscript><p>This page needs JavaScript; programs POST an image to <code>/predict</code>.</p></noscript>
<script nonce="@NONCE@">
"use strict";
const drop = document.getElementById("drop"), input = document.getElementById("file");
const answers = document.getElementById("answers"), about = document.getElementById("about");
const kShown = 20;
let line = Promise.resolve();

function element(parent, tag, name, text) {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  parent.append(e);
  return e;
}

function percent(p) { return (100 * p).toFixed(1) + " %"; }

async function ask(file, box) {
  const form = new FormData();
  form.append("image", file, file.name || "pasted");
  let answer;
  try {
    const response = await fetch("predict?top=5", {method: "POST", body: form});
    answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
  } catch (error) {
    box.replaceChildren();
    element(box, "div", "name", file.name);
    element(box, "div", "error", error instanceof TypeError ? "The service does not answer." : error.message);
    return;
  }
  box.replaceChildren();
  element(box, "div", "name", file.name);
  element(box, "div", "best", answer.class);
  for (const one of answer.top) {
    const row = element(box, "div", "row");
    element(row, "span", "", one.class);
    element(row, "span", "number", percent(one.confidence));
    element(element(row, "div", "track"), "div", "fill").style.width = percent(one.confidence).replace(" ", "");
  }
}

function add(file) {
  const card = document.createElement("article");
  const picture = element(card, "img");
  picture.alt = "";
  picture.src = URL.createObjectURL(file);
  picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src);
  const box = element(card, "div", "answer");
  element(box, "div", "name", file.name);
  element(box, "div", "", "Looking\u2026");
  answers.prepend(card);
  while (answers.children.length > kShown) answers.lastChild.remove();
  line = line.then(() => ask(file, box));
}

input.addEventListener("change", () => {
  for (const file of input.files) add(file);
  input.value = "";
});
document.addEventListener("dragover", event => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", event => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", event => {
  event.preventDefault();
  drop.classList.remove("over");
  for (const file of event.dataTransfer.files) add(file);
});
document.addEventListener("paste", event => {
  for (const file of event.clipboardData.files) add(file);
});
fetch("model").then(response => response.json()).then(model => {
  const names = model.classes.slice(0, 12).join(", ") + (model.classes.length > 12 ? ", \u2026" : "");
  about.textContent = model.model + " knows " + model.classes.length + " classes: " + names;
}).catch(() => { about.textContent = "The service does not answer."; });
</script>
</body>
</html>
)HTML";

}  // namespace

std::string serve_page(std::string_view nonce) {
  constexpr std::string_view kMark = "@NONCE@";
  std::string page(kPage);
  for (std::size_t at = page.find(kMark); at != std::string::npos; at = page.find(kMark, at))
    page.replace(at, kMark.size(), nonce);
  return page;
}

std::string serve_page_policy(std::string_view nonce) {
  const std::string own = "'nonce-" + std::string(nonce) + "'";
  return "default-src 'none'; script-src " + own + "; style-src " + own +
         "; img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors "
         "'none'";
}

}  // namespace cairn::app
