// The tables of gains: which one is shown, sorting, decimals, and the hint on a cell.

const views = [...document.querySelectorAll(".view")];
const hint = document.getElementById("hint");
let hinted = null; // the cell that the hint is about
const order = { column: null, descending: true };

function shownView() {
  return views.find((view) => !view.hidden);
}

// Of the columns; a row above them may hold the titles of groups of columns.
function headersOf(view) {
  return [...view.querySelector("thead").lastElementChild.cells];
}

function valueOf(id) {
  return document.getElementById(id)?.value ?? "";
}

function numberOf(row, column) {
  return Number(row.cells[column].dataset.gain ?? NaN);
}

function sortView(view, column, descending) {
  const headers = headersOf(view);
  const byText = headers[column].dataset.sort === "text";
  const body = view.querySelector("tbody");
  const sign = descending ? -1 : 1;
  const rows = [...body.rows].sort((one, other) => {
    if (byText) return sign * one.cells[0].textContent.localeCompare(other.cells[0].textContent, "en");
    const [a, b] = [numberOf(one, column), numberOf(other, column)];
    if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b); // what is not available comes last either way
    return sign * (a - b);
  });
  body.append(...rows);
  headers.forEach((header, i) => {
    if (header.dataset.sort === undefined) return;
    header.setAttribute("aria-sort", i !== column ? "none" : descending ? "descending" : "ascending");
  });
}

function describeView() {
  const view = shownView();
  const status = document.getElementById("view-status");
  if (!view) {
    status.textContent = "There are no scores of this model on this dataset.";
    return;
  }
  const header = headersOf(view)[order.column].textContent;
  const way = header === "Loss" ? (order.descending ? "Z to A" : "A to Z") : order.descending ? "best first" : "worst first";
  status.textContent = `${view.querySelector("caption").textContent}. Sorted by ${header}, ${way}.`;
}

function showView() {
  const [model, dataset] = [valueOf("choose-model"), valueOf("choose-dataset")];
  for (const view of views) {
    view.hidden = view.dataset.model !== model || view.dataset.dataset !== dataset;
    if (!view.hidden) sortView(view, order.column, order.descending);
  }
  describeView();
  document.dispatchEvent(new Event("viewchange"));
}

function showDecimals() {
  const form = Number(valueOf("choose-decimals"));
  for (const cell of document.querySelectorAll("[data-texts]")) cell.textContent = cell.dataset.texts.split("|")[form];
}

function showHint(cell) {
  hinted = cell;
  hint.textContent = cell.dataset.hint;
  hint.hidden = false;
  const box = cell.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - hint.offsetWidth / 2), innerWidth - hint.offsetWidth - 8);
  const above = box.top - hint.offsetHeight - 6;
  hint.style.left = `${left}px`;
  hint.style.top = `${above > 4 ? above : box.bottom + 6}px`;
}

function hideHint() {
  hinted = null;
  hint.hidden = true;
}

// One cell of a table is in the order of Tab; the arrow keys, Home and End move from there.
function moveFocus(event, body) {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const cell = event.target.closest("td[data-hint]");
  if (!cell) return;
  if (event.key === "Escape") hideHint();
  const row = cell.parentElement;
  const cells = [...row.querySelectorAll("td[data-hint]")];
  let next = null;
  if (event.key === "Home") next = cells[0];
  else if (event.key === "End") next = cells.at(-1);
  else if (event.key in steps) {
    const [down, right] = steps[event.key];
    const target = body.rows[row.sectionRowIndex + down];
    next = target?.querySelectorAll("td[data-hint]")[cells.indexOf(cell) + right];
  } else return;
  event.preventDefault();
  if (!next) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

for (const view of views) {
  const body = view.querySelector("tbody");
  view.querySelectorAll("thead th[data-sort]").forEach((header) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    header.replaceChildren(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      // gains are read best first, names from A
      const again = order.column === header.cellIndex;
      order.descending = again ? !order.descending : header.dataset.sort !== "text";
      order.column = header.cellIndex;
      sortView(view, order.column, order.descending);
      describeView();
    });
  });
  for (const cell of view.querySelectorAll("td[title]")) {
    cell.dataset.hint = cell.title;
    cell.removeAttribute("title");
    cell.setAttribute("aria-description", cell.dataset.hint);
    cell.tabIndex = -1;
  }
  const first = body.querySelector("td[data-hint]");
  if (first) first.tabIndex = 0;
  body.addEventListener("keydown", (event) => moveFocus(event, body));
  for (const [on, off] of [["focusin", "focusout"], ["mouseover", "mouseout"]]) {
    body.addEventListener(on, (event) => {
      const cell = event.target.closest("td[data-hint]");
      if (cell) showHint(cell);
    });
    body.addEventListener(off, hideHint);
  }
}

order.column = headersOf(views[0]).findIndex((header) => header.className === "average");
for (const id of ["choose-model", "choose-dataset"]) document.getElementById(id)?.addEventListener("change", showView);
document.getElementById("choose-decimals").addEventListener("change", showDecimals);
document.addEventListener("scroll", () => {
  // the focus itself scrolls its cell into view
  if (hinted && hinted === document.activeElement) showHint(hinted);
  else hideHint();
}, { capture: true, passive: true });
