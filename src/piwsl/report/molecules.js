// Frames that the reader turns: balls, sticks and the box of a cell, drawn as `piwsl.report.molecules.svg` draws them.

const UPRIGHT = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
const KEYS = { ArrowLeft: [0, -10], ArrowRight: [0, 10], ArrowUp: [-10, 0], ArrowDown: [10, 0] };
const DEGREES_A_PIXEL = 0.5;
const dot = (a, b) => a.reduce((sum, value, axis) => sum + value * b[axis], 0);
const product = (a, b) => a.map((row) => [0, 1, 2].map((column) => dot(row, b.map((values) => values[column]))));

// A view turned about x, then about y.
const turned = (view, degrees) => {
  const [[cx, sx], [cy, sy]] = degrees.map((angle) => [Math.cos, Math.sin].map((of) => of((angle * Math.PI) / 180)));
  const aboutX = [[1, 0, 0], [0, cx, -sx], [0, sx, cx]];
  const aboutY = [[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]];
  return product(aboutY, product(aboutX, view));
};

// What is inside the SVG, from behind to the front.
const molecule = (frame, looks, view, marked) => {
  const seen = (points) => points.map((point) => view.map((row) => Math.round(dot(row, point))));
  const lines = (kind, ends) => ends.map(seen).map(([a, b]) => [
    (a[2] + b[2]) / 2, `<line class="${kind}" x1="${a[0]}" y1="${-a[1]}" x2="${b[0]}" y2="${-b[1]}"></line>`,
  ]);
  const circle = (kind, [x, y], radius, fill = "") =>
    `<circle class="${kind}" cx="${x}" cy="${-y}" r="${radius}"${fill}></circle>`;
  const positions = seen(frame.positions);
  const atoms = positions.map((at, atom) => {
    const { radius, fill, ink } = looks.elements[frame.symbols[atom]];
    const letter = `<text x="${at[0]}" y="${-at[1]}" font-size="${radius}" fill="${ink}">${frame.symbols[atom]}</text>`;
    return [at[2], circle("ball", at, radius, ` fill="${fill}"`) + letter];
  });
  const parts = [...lines("edge", frame.edges), ...lines("stick", frame.sticks), ...atoms];
  const drawn = parts.sort((a, b) => a[0] - b[0]).map(([, part]) => part).join("");
  if (marked === null) return drawn;
  return drawn + circle("mark", positions[marked], looks.elements[frame.symbols[marked]].radius + looks.mark);
};

const chooseFrames = (box) => {
  const data = JSON.parse(box.querySelector("script[type='application/json']").textContent);
  const [runs, frames] = box.querySelectorAll(".choice select");
  const [turn, svg, words] = [".turn", "svg", "output"].map((name) => box.querySelector(name));
  let view = UPRIGHT;
  const draw = () => {
    const { drawing, marked } = data.runs[runs.value].frames[frames.value];
    svg.innerHTML = molecule(data.drawings[drawing], data.looks, view, marked);
  };
  const turnBy = (degrees) => { view = turned(view, degrees); draw(); };
  const showFrame = () => {
    const { title, frames: shown } = data.runs[runs.value];
    const frame = shown[frames.value];
    const { reach, said } = data.drawings[frame.drawing];
    const ring = frame.label ? `, a ring around ${frame.label}` : "";
    svg.setAttribute("viewBox", [-reach, -reach, 2 * reach, 2 * reach].join(" "));
    svg.setAttribute("aria-label", `${title}, frame ${frame.title}: balls and sticks${ring}.`);
    words.textContent = `${said} ${frame.said}`;
    view = UPRIGHT;
    draw();
  };
  const showRun = () => {
    frames.replaceChildren(...data.runs[runs.value].frames.map(({ title }, number) => new Option(title, number)));
    showFrame();
  };
  runs.addEventListener("change", showRun);
  frames.addEventListener("change", showFrame);
  turn.addEventListener("keydown", (event) => {
    if (event.key in KEYS) turnBy(KEYS[event.key]);
    else if (event.key === "Home") { view = UPRIGHT; draw(); }
    else return;
    event.preventDefault();
  });
  let last = [0, 0];
  turn.addEventListener("pointerdown", (event) => {
    last = [event.clientY, event.clientX];
    turn.setPointerCapture(event.pointerId);
  });
  turn.addEventListener("pointermove", (event) => {
    if (!turn.hasPointerCapture(event.pointerId)) return;
    const now = [event.clientY, event.clientX];
    turnBy(now.map((place, axis) => DEGREES_A_PIXEL * (place - last[axis])));
    last = now;
  });
  Object.entries({ tabindex: 0, role: "application", "aria-label": "Drag, or press arrow keys, to turn; Home turns back" })
    .forEach(([name, value]) => turn.setAttribute(name, value));
  box.querySelector(".choice").hidden = false;
  showRun();
};

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".frames").forEach(chooseFrames));
