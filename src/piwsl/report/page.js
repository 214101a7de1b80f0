// What moves on the page: tables that are sorted and filtered, and figures that follow the width of paper.
"use strict";

// Numbers before text, what is neither last, whichever way.
const compare = (a, b, sign) => {
  const [x, y] = [a, b].map((text) => (text === "" ? NaN : Number(text)));
  if (!isNaN(x) && !isNaN(y)) return sign * (x - y);
  if (!isNaN(x) || !isNaN(y)) return isNaN(x) ? 1 : -1;
  return a === "" || b === "" ? (a === "") - (b === "") : sign * a.localeCompare(b, undefined, { numeric: true });
};

const valueOf = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value ?? cell.textContent.trim();
};

const sort = (table, column) => {
  const headers = [...table.tHead.rows[0].cells];
  const ascending = headers[column].getAttribute("aria-sort") !== "ascending";
  headers.forEach((header) => header.removeAttribute("aria-sort"));
  headers[column].setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(valueOf(a, column), valueOf(b, column), ascending ? 1 : -1));
  rows.forEach((row) => row.classList.remove("first"));
  table.tBodies[0].append(...rows);
};

const filter = (table, words, count) => {
  const rows = [...table.tBodies[0].rows];
  const wanted = words.toLowerCase().split(/\s+/);
  rows.forEach((row) => { row.hidden = !wanted.every((word) => row.textContent.toLowerCase().includes(word)); });
  count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
};

// A box that scrolls is reached by keyboard, and named by the heading above it.
const nameScrollingBoxes = () => {
  let heading = "";
  document.querySelectorAll("h2, h3, .scroll, pre").forEach((element) => {
    if (element.matches("h2, h3")) heading = element.textContent;
    else if (!element.hasAttribute("role") && element.scrollWidth > element.clientWidth) {
      Object.entries({ tabindex: 0, role: "region", "aria-label": `${heading}, wider than the page` })
        .forEach(([name, value]) => element.setAttribute(name, value));
    }
  });
};

const drawnFigures = () => [...document.querySelectorAll(".js-plotly-plot")];

// On a phone the first screen is for the results.
const foldContents = () => {
  document.querySelector(".contents details").open = !matchMedia("(max-width: 30rem)").matches;
};

document.addEventListener("DOMContentLoaded", () => {
  foldContents();
  nameScrollingBoxes();
  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("th button").forEach((button) =>
      button.addEventListener("click", () => sort(table, button.parentElement.cellIndex)));
  });
  document.querySelectorAll(".filter input").forEach((input) => {
    const [table, count] = [document.getElementById(input.dataset.table), input.closest(".filter").querySelector("output")];
    input.addEventListener("input", () => filter(table, input.value, count));
  });
  matchMedia("print").addEventListener("change", () => drawnFigures().forEach((figure) => Plotly.Plots.resize(figure)));
});
