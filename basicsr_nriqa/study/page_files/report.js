// What concerns the whole page: choices that show one part of several, colours, printing.

for (const part of document.querySelectorAll("[data-js]")) part.hidden = false;
document.documentElement.classList.add("scripted");

function showPanel(select) {
  document.querySelectorAll(`.panel[data-panel="${select.dataset.panels}"]`).forEach((panel, i) => {
    panel.hidden = i !== Number(select.value);
  });
}

for (const select of document.querySelectorAll("select[data-panels]")) {
  select.addEventListener("change", () => showPanel(select));
  showPanel(select);
}

const theme = document.getElementById("theme");
theme.addEventListener("change", () => {
  document.documentElement.dataset.theme = theme.value;
});

// Paper has nothing to unfold. What the rows of tables unfold is in the section on warnings, too.
let folded = [];
// Charts do not follow the width of paper by themselves; A4 and Letter in landscape have more pixels than this.
const paperWidth = 940;
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open], .warnings details)")];
  for (const part of folded) part.open = true;
  for (const chart of document.querySelectorAll(".js-plotly-plot")) {
    Plotly.relayout(chart, { width: Math.min(chart.clientWidth, paperWidth) });
  }
});
addEventListener("afterprint", () => {
  for (const part of folded) part.open = false;
  for (const chart of document.querySelectorAll(".js-plotly-plot")) Plotly.relayout(chart, { width: null, autosize: true });
});

showView();
if (data.curves.length) drawCurves();
if (data.spectra.length) drawSpectrum();
