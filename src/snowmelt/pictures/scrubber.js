// Moves every figure[data-scrubber] of the document, those that come later too: a slider shows one of the frames above it.
(() => {
  if (window.snowmeltScrubber) return;
  window.snowmeltScrubber = true;
  const playing = new WeakMap();
  // The first element on the event's way that matches; through shadow roots, whose insides event.target hides.
  const on = (event, selector) => event.composedPath().find((node) => node instanceof Element && node.matches(selector));
  const stop = (figure) => {
    clearInterval(playing.get(figure));
    playing.delete(figure);
    const button = figure.querySelector("button");
    button.textContent = "▶\uFE0E";
    button.setAttribute("aria-label", "Play");
  };
  const show = (figure, slider, i) => {
    const frames = figure.querySelectorAll("img");
    frames.forEach((frame, k) => { frame.hidden = k !== i; });
    slider.value = i;
    slider.setAttribute("aria-valuetext", frames[i].alt);
    figure.querySelector("span").textContent = frames[i].alt;
  };
  document.addEventListener("input", (event) => {
    const slider = on(event, "[data-scrubber] input[type=range]");
    if (!slider) return;
    const figure = slider.closest("[data-scrubber]");
    stop(figure);
    show(figure, slider, Number(slider.value));
  });
  document.addEventListener("click", (event) => {
    const button = on(event, "[data-scrubber] button");
    if (!button) return;
    const figure = button.closest("[data-scrubber]");
    const slider = figure.querySelector("input");
    const last = Number(slider.max);
    if (playing.has(figure)) return stop(figure);
    const step = () => {
      if (!figure.isConnected || Number(slider.value) >= last) return stop(figure);
      show(figure, slider, Number(slider.value) + 1);
    };
    if (Number(slider.value) >= last) show(figure, slider, 0);
    button.textContent = "❚❚";
    button.setAttribute("aria-label", "Stop");
    // Three seconds a walk, at least 60 ms and at most half a second a frame.
    playing.set(figure, setInterval(step, Math.min(500, Math.max(60, 3000 / last))));
  });
})();
