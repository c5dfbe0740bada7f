"""A button that takes a sound file, or records one, and hands it over at a given sample rate."""

from __future__ import annotations

from collections.abc import Callable

import anywidget
import numpy as np
import traitlets

_TAKE = """
function render({model, el}) {
  const file = document.createElement("input"), record = document.createElement("button"), said = document.createElement("span");
  file.type = "file";
  file.accept = "audio/*,.wav,.flac,.ogg,.mp3,.m4a";
  file.setAttribute("aria-label", "sound file of your own");
  record.className = "jupyter-button";
  record.textContent = "Record";
  record.title = "Record with the microphone; a second click ends it";
  said.setAttribute("role", "status");
  el.append(file, record, said);
  // The browser decodes the sound and resamples it to the data's rate; nothing leaves this machine.
  const hand = async (name, bytes) => {
    said.textContent = " reading ...";
    try {
      const sound = await new OfflineAudioContext(1, 1, model.get("rate")).decodeAudioData(bytes);
      const mono = new Float32Array(sound.length);
      for (let n = 0; n < sound.numberOfChannels; n++)
        sound.getChannelData(n).forEach((value, i) => { mono[i] += value / sound.numberOfChannels; });
      model.send({name, rate: sound.sampleRate}, undefined, [mono.buffer]);
      said.textContent = "";
    } catch (error) { said.textContent = ` ${name} cannot be read as sound`; }
  };
  file.onchange = async () => { const chosen = file.files[0]; if (chosen) await hand(chosen.name, await chosen.arrayBuffer()); file.value = ""; };
  let recorder = null;
  record.onclick = async () => {
    if (recorder?.state === "recording") return recorder.stop();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({audio: true}), parts = [];
      recorder = new MediaRecorder(stream);
      recorder.ondataavailable = event => parts.push(event.data);
      recorder.onstop = async () => {
        stream.getTracks().forEach(track => track.stop());
        record.textContent = "Record";
        await hand("recording", await new Blob(parts).arrayBuffer());
      };
      recorder.start();
      record.textContent = "Stop recording";
      setTimeout(() => recorder.state === "recording" && recorder.stop(), 1000 * model.get("longest"));
    } catch (error) { said.textContent = " no microphone: " + error.message; }
  };
  return () => { if (recorder?.state === "recording") recorder.stop(); };
}
export default {render};
"""


class Recorder(anywidget.AnyWidget):
    """Takes a sound of the user's.

    Attributes:
        rate: samples per second that it is handed over with; longest: seconds after which a recording ends.
    """

    _esm = _TAKE
    rate = traitlets.Int(16000).tag(sync=True)
    longest = traitlets.Float(10.0).tag(sync=True)

    def on_sound(self, act: Callable[[str, np.ndarray, int], None]) -> None:
        """Call `act(name, samples, rate)` for a sound: float32 [T] in -1..1."""

        def receive(_, message: dict, buffers: list) -> None:
            samples = np.frombuffer(buffers[0], dtype="<f4")
            act(str(message.get("name", "")), samples, int(message.get("rate", self.rate)))

        self.on_msg(receive)
