// Charts, drawn by Plotly from the tables and from the page's data.

const data = JSON.parse(document.getElementById("data").textContent);
const config = { displayModeBar: false, responsive: true };
// readable on white and on the dark background
const colours = ["#2f7ed8", "#d9541e", "#1f9e6e", "#a05ad6", "#b8860b", "#d6457f", "#5b7f95", "#7f8f1f"];
const dashes = ["solid", "dash", "dot", "dashdot"];

function layout(changes) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", colorway: colours,
    font: { family: "system-ui, sans-serif", size: 13 }, margin: { l: 64, r: 16, t: 16, b: 56 },
    hoverlabel: { bgcolor: "#14171c", font: { color: "#ffffff" } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, dragmode: false, ...changes,
  };
}

// A title of an axis that keeps its distance from the numbers.
function axis(title, changes) {
  return { title: { text: title, standoff: 10 }, automargin: true, ...changes };
}

// Plotly takes some HTML in its texts, and names have none.
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

function describe(id, caption, chart) {
  document.getElementById(id).textContent = caption;
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", caption);
}

function drawLoss() {
  const view = shownView();
  const loss = valueOf("choose-loss");
  const chart = document.getElementById("loss-chart");
  const row = view && [...view.querySelectorAll("tbody tr")].find((each) => each.querySelector(".loss").textContent === loss);
  if (!row) {
    Plotly.purge(chart);
    describe("loss-caption", `There are no scores of ${loss} for this model and dataset.`, chart);
    document.getElementById("loss-numbers").replaceChildren();
    return;
  }
  const names = [...view.querySelectorAll("thead th[data-sort='']")].map((header) => header.textContent);
  const cells = [...row.querySelectorAll("td[data-hint]")];
  const number = (cell, key) => (cell.dataset[key] === undefined ? null : Number(cell.dataset[key]));
  const gains = cells.map((cell) => number(cell, "gain"));
  const reach = (key, sign) => cells.map((cell, i) => (number(cell, key) === null ? 0 : sign * (number(cell, key) - gains[i])));
  const optimised = cells.map((cell) => cell.classList.contains("optimised"));
  const marked = names.map((name, i) => (optimised[i] ? `${name} *` : name));
  const trace = {
    type: "scatter", mode: "markers", x: marked.map(plain), y: gains,
    text: cells.map((cell) => plain(cell.dataset.hint)), hovertemplate: "%{text}<extra></extra>",
    marker: { size: 11, symbol: optimised.map((is) => (is ? "square-open" : "circle")), line: { width: 2 },
              color: gains.map((gain) => (gain < 0 ? colours[1] : colours[2])) },
    error_y: { type: "data", symmetric: false, array: reach("high", 1), arrayminus: reach("low", -1), thickness: 2, width: 6,
               color: "#808890" },
  };
  Plotly.react(chart, [trace], layout({ showlegend: false, xaxis: axis("", { tickangle: -40 }),
    yaxis: axis("Relative gain, %", { zeroline: true }) }), config);
  const place = view.querySelector("caption").textContent.replace("Relative gain in percent: ", "");
  const intervals = cells.some((cell) => cell.dataset.low !== undefined)
    ? "bars are 95 % intervals" : "no intervals: they need several videos";
  describe("loss-caption", `Gains of ${loss} (${place}); ${intervals}; open squares and stars: the loss contained this metric.`, chart);
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const title of ["Metric", "Gain, %", "Low, %", "High, %"]) {
    head.append(Object.assign(document.createElement("th"), { textContent: title, scope: "col" }));
  }
  const body = table.createTBody();
  cells.forEach((cell, i) => {
    const line = body.insertRow();
    line.append(Object.assign(document.createElement("th"), { textContent: marked[i], scope: "row" }));
    for (const key of ["gain", "low", "high"]) line.insertCell().textContent = number(cell, key)?.toFixed(2) ?? "n/a";
  });
  document.getElementById("loss-numbers").replaceChildren(table);
}

function drawCurves() {
  const select = document.getElementById("training");
  const title = valueOf("choose-curves");
  const chart = document.getElementById("curves-chart");
  const series = data.curves[Number(select.value)][title] ?? [];
  const logarithmic = document.getElementById("curves-log").checked;
  // losses of scores that shall grow are negative, and a logarithm wants positive numbers
  const negative = series.map(({ y }) => logarithmic && y.filter((value) => value < 0).length > y.length / 2);
  const traces = series.map(({ name, x, y }, i) => ({
    type: "scatter", mode: x.length > 1 ? "lines" : "markers", name: plain(negative[i] ? `−${name}` : name), x,
    y: negative[i] ? y.map((value) => value === null ? null : -value) : y,
    line: { width: 2, dash: dashes[Math.floor(i / colours.length) % dashes.length] },
  }));
  Plotly.react(chart, traces, layout({ showlegend: true, hovermode: "x", xaxis: axis("Iteration"),
    yaxis: axis(title, { type: logarithmic ? "log" : "linear", exponentformat: "power" }) }), config);
  const run = select.selectedOptions[0].textContent;
  const sign = negative.some(Boolean) ? " A curve named with − shows negative values without their sign." : "";
  describe("curves-caption", series.length ? `${title} of ${run}: ${series.map(({ name }) => name).join(", ")}.${sign} Their first, last and extreme values are in the table below.`
    : `${run} did not log ${title.toLowerCase()}.`, chart);
}

function drawSpectrum() {
  const select = document.getElementById("artifacts");
  const { map, peaks } = data.spectra[Number(select.value)];
  const chart = document.getElementById("spectrum-chart");
  const run = select.selectedOptions[0].textContent;
  const [rows, columns] = [map.length, map[0].length];
  const traces = [{
    type: "heatmap", z: map, colorscale: "Viridis", zsmooth: false,
    x: Array.from({ length: columns }, (_, i) => (0.5 * i) / (columns - 1)),
    y: Array.from({ length: rows }, (_, i) => i / rows - 0.5),
    colorbar: { title: { text: "dB", side: "right" }, thickness: 14, outlinewidth: 0 },
    hovertemplate: "vertical %{y:.3f}, horizontal %{x:.3f} cycles/px: %{z:.1f} dB<extra></extra>",
  }, {
    // 0.5 is the same frequency as -0.5, where the map has it
    type: "scatter", mode: "markers", x: peaks.map((peak) => peak[1]), y: peaks.map(([y]) => (y === 0.5 ? -0.5 : y)),
    cliponaxis: false,
    marker: { symbol: "circle-open", size: 16, color: "#ffffff", line: { width: 2 } },
    text: peaks.map((peak) => `${peak[2].toPrecision(3)} times its surroundings`), hovertemplate: "%{text}<extra></extra>",
  }];
  Plotly.react(chart, traces, layout({ showlegend: false, xaxis: axis("Horizontal frequency, cycles/px", { range: [-0.01, 0.51] }),
    yaxis: axis("Vertical frequency, cycles/px", { range: [-0.51, 0.51] }) }), config);
  describe("spectrum-caption", `Power of the difference to the baseline at each frequency, ${run}; circles: the strongest peaks, which the table below lists.`, chart);
}

document.getElementById("choose-loss").addEventListener("change", drawLoss);
document.addEventListener("viewchange", drawLoss);
for (const id of ["choose-curves", "curves-log", "training"]) document.getElementById(id)?.addEventListener("change", drawCurves);
document.getElementById("artifacts")?.addEventListener("change", drawSpectrum);
