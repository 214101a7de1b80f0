// Figures of the runs that the reader chose: what is drawn of each run lies in the page, packed (choice.py).

// Numbers of `piwsl.report.choice.packed`.
const unpacked = (array) => {
  if (Array.isArray(array)) return array;
  const bytes = Uint8Array.from(atob(array.bits), (letter) => letter.charCodeAt(0));
  return Array.from(new Uint16Array(bytes.buffer), (steps) => array.low + array.step * steps);
};

// Puts the runs into the figure of a name, a trace for each loss, and into its sentence.
const drawRuns = (figure, data, which, runs) => {
  const { name } = figure.dataset;
  const shown = runs.filter((run) => name in run.figures);
  const ofLoss = data.losses.map((loss) => shown.find((run) => run.loss === loss)?.figures[name]);
  const numbers = (side) => ofLoss.map((drawn) => (drawn ? unpacked(data.arrays[drawn[side]]) : []));
  Plotly.restyle(
    figure.querySelector(".js-plotly-plot"),
    { x: numbers("x"), y: numbers("y"), visible: ofLoss.map(Boolean) },
    data.losses.map((_, trace) => trace),
  );
  const words = shown.map((run) => `${run.loss}: ${run.figures[name].words}`).join("; ");
  figure.querySelector("[role=img]").setAttribute("aria-label", `${data.said[name]}, ${which}. ${words}.`);
};

const chooseRuns = (box) => {
  const data = JSON.parse(box.querySelector("script[type='application/json']").textContent);
  const [which, losses] = box.querySelectorAll(".choice select");
  const show = () => {
    const runs = data.runs.filter(
      (run) => run.which === which.value && (losses.value === "" || run.loss === losses.value));
    box.querySelectorAll("[data-name]").forEach((figure) => drawRuns(figure, data, which.value, runs));
    const shown = runs.map((run) => run.loss).join(", ") || "there is no such run";
    box.querySelector("output").textContent = `${which.value}: ${shown}`;
  };
  [which, losses].forEach((select) => select.addEventListener("change", show));
  box.querySelector(".choice").hidden = false;
  show();
};

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".runs").forEach(chooseRuns));
