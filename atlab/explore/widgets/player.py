"""A player for the sounds of a page: one moment in all of them, and a cursor over the figure that shows them."""

from __future__ import annotations

import anywidget
import traitlets

_PLAY = """
function render({model, el}) {
  const audio = document.createElement("audio"), choices = document.createElement("span");
  audio.controls = true;
  audio.style.cssText = "height: 32px; vertical-align: middle; margin-right: 8px";
  el.append(audio, choices);
  let urls = {}, chosen = "", marks = [], root = null;

  const write = () => {
    const [place, going] = [audio.currentTime, !audio.paused && !audio.ended];
    Object.values(urls).forEach(URL.revokeObjectURL);
    urls = {};
    const sounds = model.get("sounds"), labels = model.get("labels");
    for (const name of Object.keys(labels)) {
      const bytes = sounds[name];
      if (bytes?.byteLength) urls[name] = URL.createObjectURL(new Blob([bytes], {type: "audio/wav"}));
    }
    choices.replaceChildren(...Object.keys(urls).map((name, n) => {
      const button = document.createElement("button");
      button.className = "jupyter-button atlab-sound-" + name;
      button.textContent = labels[name];
      button.title = n < 2 ? "Key " + "ab"[n] + ": go on with this sound at the same moment" : "Go on with this sound at the same moment";
      button.onclick = () => choose(name, true);
      return button;
    }));
    const any = Object.keys(urls).length > 0;
    for (const part of [audio, choices]) part.hidden = !any;  // the widget's own display is the layout's
    if (any) choose(chosen in urls ? chosen : Object.keys(urls)[0], going, place);
  };

  const choose = (name, play, place = audio.currentTime) => {
    chosen = name;
    for (const button of choices.children)
      button.setAttribute("aria-pressed", String(button.classList.contains("atlab-sound-" + name)));
    audio.src = urls[name];
    audio.dataset.sound = name;
    audio.currentTime = place;
    if (play) audio.play().catch(() => {});
  };

  // A line at the present moment in every panel that shows the sound.
  const follow = () => {
    const plot = root?.querySelector(`.atlab-figure-${model.get("figure")} .js-plotly-plot`), layout = plot?._fullLayout;
    marks.forEach(mark => mark.remove());
    marks = [];
    if (layout?._plots && plot.offsetWidth && audio.currentTime > 0) {
      const panels = Object.values(layout._plots), [row, column] = model.get("places")[chosen] ?? [0, -1];
      const order = axis => [...new Set(panels.map(panel => Math.round(panel[axis]._offset)))].sort((a, b) => a - b);
      const rows = order("yaxis"), columns = order("xaxis");
      plot.style.position = "relative";
      for (const {xaxis, yaxis} of panels) {
        if (rows.indexOf(Math.round(yaxis._offset)) !== row) continue;
        if (column >= 0 && columns.indexOf(Math.round(xaxis._offset)) !== column) continue;
        const x = xaxis.l2p(audio.currentTime), mark = document.createElement("div");
        if (x < 0 || x > xaxis._length) continue;
        mark.className = "atlab-cursor";
        mark.style.cssText = `position: absolute; pointer-events: none; width: 2px; background: #E69F00; left: ${xaxis._offset + x}px; top: ${yaxis._offset}px; height: ${yaxis._length}px`;
        plot.append(mark);
        marks.push(mark);
      }
    }
    if (!audio.paused && !audio.ended) requestAnimationFrame(follow);
  };
  for (const event of ["loadeddata", "play", "seeked", "pause"]) audio.addEventListener(event, follow);
  audio.addEventListener("ended", () => { audio.currentTime = 0; });

  const press = event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, button, audio")) return;
    const place = "ab".indexOf(event.key), name = Object.keys(urls)[place];
    if (event.key === " ") audio.paused ? audio.play() : audio.pause();
    else if (place >= 0 && name) choose(name, true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const attach = () => {
    root = el.closest(".atlab-explorer");
    if (!root) return setTimeout(attach, 200);
    root.addEventListener("keydown", press);
  };
  setTimeout(attach);
  model.on("change:sounds", write);
  const dim = () => el.classList.toggle("atlab-stale", model.get("stale"));
  model.on("change:stale", dim);
  dim();
  write();
  return () => { audio.pause(); root?.removeEventListener("keydown", press); Object.values(urls).forEach(URL.revokeObjectURL); };
}
export default {render};
"""


class Player(anywidget.AnyWidget):
    """Plays one of some sounds; another one goes on at the same moment.

    Attributes:
        sounds: WAV bytes by name, b"" for none; labels: what they are called, in the order of their buttons.
        figure: the view whose panels get the cursor; places: (row, column) of a sound's panels, column -1 for all.
    """

    _esm = _PLAY
    sounds = traitlets.Dict().tag(sync=True)
    labels = traitlets.Dict().tag(sync=True)
    figure = traitlets.Unicode().tag(sync=True)
    places = traitlets.Dict().tag(sync=True)
    stale = traitlets.Bool(False).tag(sync=True)
