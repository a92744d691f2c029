// Live updates of a page that works without them: the server renders; after an event this script fetches the page again and copies
// what differs. One stream, one timer, no listener on elements that come and go.
"use strict";

(() => {
  const body = document.body;
  const live = document.getElementById("live");
  const said = document.getElementById("said");
  const watched = body.dataset.refresh;
  let timer = 0, asking = false, again = false, count = 0;

  // Copy the content of `fresh` into `old` and keep every element that is still there: focus, scroll and typed text stay.
  function merge(old, fresh) {
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const known = new Map();
    for (const child of old.children) if (child.id) known.set(child.id, child);
    let place = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      const same = wanted.id ? known.get(wanted.id) : place;
      if (same && !(wanted.id === "" && same.id) && same.nodeType === wanted.nodeType && same.nodeName === wanted.nodeName) {
        if (same !== place) old.insertBefore(same, place); else place = place.nextSibling;
        if (same.nodeType !== Node.ELEMENT_NODE) { if (same.data !== wanted.data) same.data = wanted.data; }
        else if (same.nodeName === "PROGRESS" || same.hasAttribute("data-said")) { /* set by the stream */ }
        else if (!same.isEqualNode(wanted)) merge(same, wanted);
      } else old.insertBefore(document.importNode(wanted, true), place);
    }
    while (place) { const next = place.nextSibling; place.remove(); place = next; }
  }

  async function refresh() {
    timer = 0;
    if (document.hidden) { again = true; return; }
    if (asking) { again = true; return; }
    asking = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", headers: { Accept: "text/html", "X-Queuekeeper-Refresh": "1" } });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        merge(document.getElementById("main"), page.getElementById("main"));
        merge(document.querySelector(".bar"), page.querySelector(".bar"));
        live.textContent = page.getElementById("live").textContent.split(";")[0] + "; updates are live.";
        body.dataset.refreshed = ++count;
      }
    } catch { tell("The agent does not answer; retrying.", true); }
    asking = false;
    if (again) { again = false; soon(); }
  }

  function soon() { if (!timer) timer = setTimeout(refresh, Number(body.dataset.pause)); }

  function tell(text, lost) {
    live.textContent = text;
    live.classList.toggle("lost", Boolean(lost));
  }

  function progress(news) {
    const line = document.querySelector(`[data-run="${Number(news.run)}"]`);
    const bar = line && line.querySelector("progress"), words = line && line.querySelector("[data-said]");
    if (!bar) return false;
    const { done, total } = news.figures;
    if (news.kind === "progress" && total > 0) { bar.max = total; bar.value = done; }
    words.textContent = news.kind === "progress" && total > 0 ? `${news.message}: ${Math.floor(100 * done / total)} %` : news.message;
    return true;
  }

  if (!watched || !window.EventSource) return;
  const stream = new EventSource(body.dataset.events);
  stream.addEventListener("open", () => { tell("Updates are live."); soon(); });
  stream.addEventListener("error", () => tell("The connection was lost, so this page may be old; retrying.", true));
  stream.addEventListener("reading", (event) => {
    if (watched === "all" || watched === JSON.parse(event.data).database) soon();
  });
  stream.addEventListener("run", (event) => {
    const news = JSON.parse(event.data);
    if (progress(news) && (news.kind === "progress" || news.kind === "phase")) return;
    if (news.kind === "ended") said.textContent = `Run ${news.run}, ${news.action} on ${news.database}: ${news.figures.outcome}`;
    soon();
  });
  stream.addEventListener("lost", soon);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && again) { again = false; soon(); } });
  window.addEventListener("pagehide", () => stream.close());
})();
