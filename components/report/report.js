"use strict";
// Shows what a chart's strips say, by pointer and by arrow keys. Without it the page still reads.
(() => {
  const tip = document.getElementById("tip");

  function lines(text) {
    return text.split("\n").map((line) => {
      const row = document.createElement("div");
      for (const part of line.split("\t")) {
        const cell = document.createElement("span");
        cell.textContent = part;
        row.append(cell);
      }
      return row;
    });
  }

  function place(plot, at) {
    const box = plot.getBoundingClientRect();
    const x = box.left + (box.width * at) / 100;
    const width = tip.offsetWidth;
    const right = x + 14 + width <= document.documentElement.clientWidth - 8;
    const left = Math.max(8, right ? x + 14 : x - 14 - width);
    const above = box.top - tip.offsetHeight - 6;
    const inside = plot.classList.contains("forest") ? (above > 0 ? above : box.bottom + 6) : box.top + 8;
    tip.style.left = `${left + window.scrollX}px`;
    tip.style.top = `${inside + window.scrollY}px`;
  }

  function related(plot) {
    const group = plot.dataset.group;
    return group ? document.querySelectorAll(`.plot[data-group="${group}"]`) : [plot];
  }

  function show(plot, hit) {
    const at = Number(hit.dataset.at);
    tip.replaceChildren(...lines(hit.dataset.tip));
    tip.hidden = false;
    place(plot, at);
    for (const other of related(plot)) {
      const line = other.querySelector(":scope > .crosshair");
      line.setAttribute("x1", `${at}%`);
      line.setAttribute("x2", `${at}%`);
      other.classList.add("asked");
    }
  }

  function hide(plot) {
    tip.hidden = true;
    for (const other of related(plot)) other.classList.remove("asked");
  }

  for (const plot of document.querySelectorAll(".plot")) {
    const hits = [...plot.querySelectorAll(":scope > .hit")];
    if (!hits.length) continue;
    let current = -1;
    const go = (index) => {
      current = Math.min(Math.max(index, 0), hits.length - 1);
      show(plot, hits[current]);
    };
    const point = (event) => {
      const index = hits.indexOf(event.target);
      if (index >= 0) go(index);
    };
    plot.addEventListener("pointermove", point);
    plot.addEventListener("pointerdown", point);
    plot.addEventListener("pointerleave", () => hide(plot));
    plot.addEventListener("focus", () => plot.matches(":focus-visible") && go(current < 0 ? 0 : current));
    plot.addEventListener("blur", () => hide(plot));
    plot.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
      if (event.key === "Escape") return hide(plot);
      if (!(event.key in steps)) return;
      event.preventDefault();
      go(current + steps[event.key]);
    });
  }

  // The page may travel without the file beside it, so the link carries the page's own copy.
  const data = document.getElementById("report-data");
  if (data) {
    const copy = `data:application/json;charset=utf-8,${encodeURIComponent(data.textContent)}`;
    document.getElementById("data-link").href = copy;
  }
})();
