"use strict";
// Sorts, filters and searches what the page already shows. Text from the data is only ever read and compared.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const bar = document.getElementById("filter");
  if (bar) {
    const said = document.getElementById("filter-said");
    const search = document.getElementById("filter-search");
    const severity = document.getElementById("filter-severity");
    const check = document.getElementById("filter-check");
    const cards = all("article.finding").map((card) => ({
      card, line: document.getElementById(`l-${card.id}`), text: card.textContent.toLowerCase(),
    }));
    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const { card, line, text } of cards) {
        const fits = words.every((word) => text.includes(word))
          && (!severity.value || card.dataset.severity === severity.value)
          && (!check.value || card.dataset.check === check.value);
        card.classList.toggle("filtered", !fits);
        if (line) line.classList.toggle("filtered", !fits);
        shown += fits;
      }
      said.textContent = `${shown} of ${cards.length} shown`;
    };
    bar.addEventListener("input", apply);
    document.getElementById("filter-clear").addEventListener("click", () => {
      search.value = severity.value = check.value = "";
      apply();
      search.focus();
    });
    bar.hidden = false;
    apply();
  }

  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent.trim();
  };
  const compare = (a, b) => {
    const [x, y] = [a, b].map((text) => Number(text.replaceAll(",", "").replace(/ ?%| seconds/, "")));
    return a && b && !Number.isNaN(x) && !Number.isNaN(y) ? x - y : a.localeCompare(b);
  };
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].sort((a, b) => compare(value(a, column), value(b, column)));
        body.append(...(down ? rows.reverse() : rows));
      });
    });
  }

  // The plot of the file says what the pointer or the arrow keys point at.
  const plot = document.getElementById("plot-file");
  if (plot) {
    const bars = all("g", plot);
    const told = document.getElementById("plot-told");
    let at = -1;
    const point = (to) => {
      if (bars[at]) bars[at].classList.remove("at");
      at = Math.max(0, Math.min(bars.length - 1, to));
      bars[at].classList.add("at");
      told.textContent = bars[at].querySelector("title").textContent;
    };
    bars.forEach((one, i) => one.addEventListener("pointerenter", () => point(i)));
    plot.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: bars.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      point(to);
    });
    plot.tabIndex = 0;
    told.textContent = "Point at a bar, or use the arrow keys on the plot, for its numbers.";
  }

  // Paper has nothing to click on.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((one) => { one.open = true; });
  });
  window.addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
})();
