"use strict";
for (const gallery of document.querySelectorAll(".gallery")) {
  const form = gallery.querySelector("form");
  if (!form) continue;
  const list = gallery.querySelector(".items");
  const items = [...list.children];
  const update = () => {
    const wanted = new FormData(form);
    let shown = 0;
    for (const item of items) {
      const fits = ["member", "group", "kind", "error"].every(
        (name) => !wanted.get(name) || item.dataset[name] === wanted.get(name));
      const above = ["risk", "flip", "swap", "repaired"].every(
        (name) => !wanted.get(name) || Number(item.dataset[name]) >= Number(wanted.get(name)));
      item.hidden = !(fits && above);
      shown += item.hidden ? 0 : 1;
    }
    const order = wanted.get("order");
    const value = (item) => (Number.isNaN(Number(item.dataset[order])) ? -Infinity : Number(item.dataset[order]));
    list.append(...(order ? [...items].sort((a, b) => value(b) - value(a)) : items));
    form.querySelector("output").value = `${shown} of ${items.length} images`;
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
}
for (const search of document.querySelectorAll("[data-search]")) {
  const rows = [...search.nextElementSibling.querySelectorAll("tbody tr")];
  const field = search.querySelector("input");
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += row.hidden ? 0 : 1;
    }
    search.querySelector("output").value = `${shown} of ${rows.length} rows`;
  });
}
// A link to a folded section opens it.
const open = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let node = target; node; node = node.parentElement) {
    if (node.tagName === "DETAILS") node.open = true;
  }
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", open);
addEventListener("load", open);
// Paper has no clicks: what is folded is printed, too.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:not([open])")) {
    folded.open = true;
    folded.dataset.folded = "";
  }
});
addEventListener("afterprint", () => {
  for (const folded of document.querySelectorAll("details[data-folded]")) {
    folded.open = false;
    delete folded.dataset.folded;
  }
});
