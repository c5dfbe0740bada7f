"""Two small widgets: a plotly figure that follows a Python figure, and code to be copied.

`plotly.graph_objects.FigureWidget` brings plotly.js (5 MB) along with every figure and sends heat maps as text; here a
page asks for plotly.js once, figures travel with binary arrays and are drawn by `Plotly.react`, which changes what differs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import anywidget
import plotly
import plotly.graph_objects as go
import traitlets
from plotly.io.json import to_json_plotly

_DRAW = """
const letters = text => ({svg: `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 26 15"><text x="13" y="12" text-anchor="middle" font-size="14" font-family="sans-serif">${text}</text></svg>`});
const file = plot => plot.getAttribute("aria-label").replace(/[^\\w-]+/g, "_").slice(0, 60) || "figure";
const save = (name, bytes, type) => {
  const link = Object.assign(document.createElement("a"), {download: name, href: URL.createObjectURL(new Blob([bytes], {type}))});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
// The page draws PNG and SVG itself; a PDF is drawn by the kernel's Chrome.
const config = (Plotly, model) => ({displaylogo: false, responsive: true, plotlyServerURL: "", showSendToCloud: false,
  modeBarButtonsToRemove: ["toImage"], modeBarButtonsToAdd: [[
    {name: "png", title: "Download plot as a PNG", icon: letters("png"), click: plot => Plotly.downloadImage(plot, {format: "png", scale: 2, filename: file(plot)})},
    {name: "svg", title: "Download plot as an SVG", icon: letters("svg"), click: plot => Plotly.downloadImage(plot, {format: "svg", filename: file(plot)})},
    {name: "pdf", title: "Download plot as a PDF", icon: letters("pdf"), click: plot => model.send({kind: "pdf", width: plot.offsetWidth})},
  ]]});

function library(model) {
  const known = globalThis.atlabPlotly;
  if (known && (known.loaded || Date.now() - known.asked < 5000)) return known.promise;
  const entry = {loaded: false, asked: Date.now()};
  entry.promise = new Promise((resolve, reject) => {
    const receive = (message, buffers) => {
      if (message.kind !== "plotly.js") return;
      model.off("msg:custom", receive);
      const url = URL.createObjectURL(new Blob([
        "const define = undefined, module = {exports: {}}, exports = module.exports;\\n", buffers[0],
        "\\nexport default module.exports;"], {type: "text/javascript"}));
      import(url).then(found => { entry.loaded = true; resolve(found.default); }, reject)
        .finally(() => URL.revokeObjectURL(url));
    };
    model.on("msg:custom", receive);
    model.send({kind: "plotly.js"});
  });
  globalThis.atlabPlotly = entry;
  return entry.promise;
}

function render({model, el}) {
  const place = document.createElement("div");
  place.style.width = "100%";
  place.setAttribute("role", "figure");
  el.append(place);
  let Plotly = null, gone = false, clicks = 0;
  const draw = async () => {
    Plotly ??= await library(model);
    const text = model.get("_figure");
    if (gone || !text) return;
    const figure = JSON.parse(text);
    const first = !place.classList.contains("js-plotly-plot");
    place.setAttribute("aria-label", model.get("label"));
    await Plotly.react(place, figure.data, figure.layout, config(Plotly, model));
    place.dataset.drawn = Number(place.dataset.drawn || 0) + 1;
    if (first) place.on("plotly_click", event => {
      const {x, y, curveNumber, customdata} = event.points[0];
      model.set("clicked", {x, y, curve: curveNumber, customdata: customdata ?? null, count: ++clicks});
      model.save_changes();
    });
  };
  const said = document.createElement("div");
  said.setAttribute("role", "alert");
  el.append(said);
  const receive = (message, buffers) => {
    if (message.kind !== "pdf") return;
    said.textContent = message.error;
    if (!message.error) save(file(place) + ".pdf", buffers[0], "application/pdf");
  };
  model.on("msg:custom", receive);
  let queue = Promise.resolve();
  const later = () => { queue = queue.then(draw).catch(error => { place.textContent = "the figure could not be drawn: " + error; }); };
  model.on("change:_figure", later);
  const dim = () => el.classList.toggle("atlab-stale", model.get("stale"));
  model.on("change:stale", dim);
  dim();
  const watch = new ResizeObserver(() => { if (Plotly && place.classList.contains("js-plotly-plot") && place.offsetWidth) Plotly.Plots.resize(place); });
  watch.observe(el);
  later();
  return () => { gone = true; watch.disconnect(); model.off("change:_figure", later); model.off("msg:custom", receive); if (Plotly) Plotly.purge(place); };
}
export default {render};
"""

_COPY = """
function render({model, el}) {
  const button = document.createElement("button"), code = document.createElement("pre");
  button.className = "jupyter-button";
  button.textContent = "Copy as code";
  button.title = "The cell that reproduces these figures";
  code.style.cssText = "margin: 4px 0 0; padding: 6px; overflow-x: auto; border: 1px solid #888; font-size: 12px";
  code.hidden = true;
  code.tabIndex = 0;
  code.setAttribute("aria-label", "the cell that reproduces these figures");
  const show = () => {
    code.textContent = model.get("code");
    button.textContent = "Copy as code";
  };
  button.onclick = async () => {
    show();
    code.hidden = !code.hidden;
    if (code.hidden) return;
    try { await navigator.clipboard.writeText(model.get("code")); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(code); }
  };
  // Sliders have a label beside them that their handle does not know of.
  const label = () => el.closest(".atlab-explorer")?.querySelectorAll(".widget-slider").forEach(slider =>
    slider.querySelector(".noUi-handle")?.setAttribute("aria-label", slider.querySelector("label")?.textContent ?? ""));
  model.on("change:code", show);
  model.on("change:code", label);
  show();
  el.append(button, code);
  for (const wait of [0, 500, 2000]) setTimeout(label, wait);
  return () => { model.off("change:code", show); model.off("change:code", label); };
}
export default {render};
"""


_LOOK = """
.atlab-explorer { outline: none; }
.atlab-stale { opacity: 0.25; transition: opacity 0.1s 0.3s; }
.atlab-message p { margin: 2px 0; }
.atlab-message [role=alert] { border-left: 4px solid #D55E00; padding-left: 8px; }
.atlab-explorer .widget-html-content { line-height: 1.45; min-width: 0; overflow-x: auto; }
.atlab-application .lm-TabBar .lm-TabBar-tab { flex: 0 0 auto !important; width: max-content; padding-right: 16px; }
.atlab-table :is(td, th) { padding: 1px 10px; text-align: left; white-space: nowrap; }
.atlab-table .atlab-number { text-align: right; }
.atlab-table td button { font-size: 11px; padding: 0 6px; }
.atlab-table tbody tr { cursor: default; }
.atlab-table tbody tr:hover { background: rgba(86, 180, 233, 0.15); }
.atlab-table th button { border: 0; background: none; font: inherit; font-weight: bold; cursor: pointer; }
.atlab-keys-list { margin: 4px 0; display: grid; grid-template-columns: max-content auto; gap: 2px 12px; }
.atlab-explorer [hidden] { display: none !important; }
button[aria-pressed=true] { box-shadow: inset 0 -3px #0072B2; }
.atlab-explorer .widget-tab-contents, .atlab-application .widget-tab-contents { overflow-x: hidden; padding: 6px; }
"""


class FigureView(anywidget.AnyWidget):
    """Shows a figure; `show` replaces it. Not drawn again if it is the object that is shown already.

    Attributes:
        figure: the `go.Figure` shown, None before the first.
        clicked: the point clicked last: x, y, curve, customdata.
        stale: dimmed, for it belongs to another state.
    """

    _esm = _DRAW
    _figure = traitlets.Unicode("").tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)
    clicked = traitlets.Dict().tag(sync=True)
    stale = traitlets.Bool(False).tag(sync=True)

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.figure: go.Figure | None = None
        self.on_msg(self._answer)

    def show(self, figure: go.Figure) -> None:
        """Draw `figure` as wide as the page; its height is kept."""
        if figure is self.figure:
            return
        self.figure = figure
        drawn = figure.to_dict()  # arrays in base64
        drawn["layout"].pop("width", None)
        drawn["layout"]["autosize"] = True
        with self.hold_sync():
            self.label = str(figure.layout.title.text or "figure").replace("<br>", ", ")
            self._figure = to_json_plotly(drawn)

    def on_click(self, act: Callable[[dict], None]) -> None:
        """Call `act` with every point that is clicked."""
        self.observe(lambda change: act(change["new"]), "clicked")

    def _answer(self, _: object, message: dict, __: object) -> None:
        if message.get("kind") == "plotly.js":
            source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
            self.send({"kind": "plotly.js"}, [source.read_bytes()])
        elif message.get("kind") == "pdf" and self.figure is not None:
            threading.Thread(target=self._send_pdf, args=(self.figure, int(message["width"])), daemon=True).start()

    def _send_pdf(self, figure: go.Figure, width: int) -> None:
        try:
            drawn = figure.to_image("pdf", width=width, height=figure.layout.height)
            self.send({"kind": "pdf", "error": ""}, [drawn])
        except Exception as error:  # kaleido raises several types where it finds no Chrome
            said = (
                f"No PDF: it takes Chrome or Chromium where the kernel runs ({type(error).__name__}). SVG needs none."
            )
            self.send({"kind": "pdf", "error": said})


class CodeButton(anywidget.AnyWidget):
    """A button that shows `code` and puts it on the clipboard."""

    _esm = _COPY
    _css = _LOOK
    code = traitlets.Unicode("").tag(sync=True)
