// Tells the kernel that its page is there (kit/live/drawn.py, `Page`): when it comes, now and then, and when it goes.

const BEAT = 15; // seconds between two signs of life
const SETTLED = 3; // seconds after which a page that came has all its widgets, and says again that it is there

function initialize({ model }) {
  const say = (there) => model.send({ there });
  const come = () => say(true);
  const seen = () => { if (!document.hidden) come(); }; // a page that goes is hidden after it has said so
  const go = () => say(false);
  window.addEventListener("pagehide", go);
  window.addEventListener("pageshow", come);
  document.addEventListener("visibilitychange", seen);
  const stay = (event) => { if (document.body.dataset.voila && model.get("lost")) event.preventDefault(); };
  window.addEventListener("beforeunload", stay);
  const beat = window.setInterval(come, 1000 * BEAT);
  come();
  window.setTimeout(come, 1000 * SETTLED);
  return () => {
    window.clearInterval(beat);
    window.removeEventListener("beforeunload", stay);
    window.removeEventListener("pagehide", go);
    window.removeEventListener("pageshow", come);
    document.removeEventListener("visibilitychange", seen);
  };
}

export default { initialize, render() {} };
