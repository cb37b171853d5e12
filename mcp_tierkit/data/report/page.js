"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  const themes = all("[data-theme]");
  themes.forEach((button) =>
    button.addEventListener("click", () => {
      if (button.dataset.theme === "auto") root.removeAttribute("data-colours");
      else root.setAttribute("data-colours", button.dataset.theme);
      themes.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    }),
  );
  all(".theme").forEach((group) => (group.hidden = false));

  all(".columns").forEach((chart) => {
    const plot = chart.querySelector("svg");
    const readout = chart.querySelector(".readout");
    const columns = all("g[data-tip]", plot);
    const said = readout.textContent;
    let at = -1;
    const read = (next) => {
      if (at >= 0) columns[at].classList.remove("on");
      at = next;
      if (at >= 0) columns[at].classList.add("on");
      readout.textContent = at < 0 ? said : columns[at].dataset.tip;
    };
    columns.forEach((column, index) => {
      column.addEventListener("pointerenter", () => read(index));
      column.addEventListener("pointerdown", () => read(index));
    });
    plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && read(-1));
    plot.addEventListener("blur", () => read(-1));
    plot.addEventListener("keydown", (event) => {
      const last = columns.length - 1;
      const next = {
        ArrowLeft: at < 0 ? last : Math.max(at - 1, 0),
        ArrowRight: at < 0 ? 0 : Math.min(at + 1, last),
        Home: 0,
        End: last,
        Escape: -1,
      }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      read(next);
    });
  });

  // A card of a phone is as high as five rows of a table.
  const STEP = matchMedia("(max-width: 640px)").matches ? 10 : 25;
  all("table.tasks").forEach((table) => {
    const card = table.closest("section");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const search = card.querySelector(".search");
    const input = search.querySelector("input");
    const more = card.querySelector(".more");
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    let shown = STEP;
    const show = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const fitting = rows.filter((row) => words.every((word) => texts.get(row).includes(word)));
      const seen = new Set(fitting.slice(0, shown));
      rows.forEach((row) => (row.hidden = !seen.has(row)));
      search.querySelector(".found").textContent = `${seen.size} of ${fitting.length} shown`;
      more.hidden = fitting.length <= shown;
    };
    const value = (row, column, kind) => {
      const cell = row.cells[column];
      const told = cell.dataset.value;
      if (kind === "number") return told === undefined ? null : Number(told);
      return told === undefined ? cell.textContent.toLowerCase() : told;
    };
    const compare = (one, other) => {
      if (one === null || other === null) return (one === null) - (other === null);
      return one < other ? -1 : one > other ? 1 : 0;
    };
    const heads = [...table.tHead.rows[0].cells];
    const sort = (head, column) => {
      const kind = head.dataset.kind;
      const first = kind === "number" ? "descending" : "ascending";
      const second = kind === "number" ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      heads.forEach((other) => other.setAttribute("aria-sort", other === head ? order : "none"));
      rows.sort((one, other) => {
        const [a, b] = [value(one, column, kind), value(other, column, kind)];
        // What is not known stays last, whichever way the rest is sorted.
        return a === null || b === null || order === "ascending" ? compare(a, b) : compare(b, a);
      });
      body.append(...rows);
      show();
    };
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(head, column)));
    input.addEventListener("input", () => {
      shown = STEP;
      show();
    });
    more.addEventListener("click", () => {
      shown += 4 * STEP;
      show();
    });
    search.hidden = false;
    show();
  });
})();
