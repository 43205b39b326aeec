// Looks again at the page that is shown, every few seconds, and puts in the parts that have changed.
"use strict";
(() => {
  const main = document.getElementById("main");
  const announce = document.getElementById("announce");
  const updated = document.getElementById("updated");
  if (!main || !announce) return;

  // What somebody has the focus in, has marked, or has opened, is left as it is until they are done.
  const isInUse = (part) => {
    const marked = document.getSelection();
    return (part.contains(document.activeElement) && document.activeElement !== main)
      || (marked && !marked.isCollapsed && part.contains(marked.anchorNode));
  };
  const openDetails = (part) => [...part.querySelectorAll("details")].map((one) => one.open);

  const names = (of) => [...of.querySelectorAll("[data-live]")].map((part) => part.id).join();

  const put = (fresh) => {
    const parts = [...fresh.querySelectorAll("[data-live]")];
    if (names(fresh) !== names(main)) {
      // A part has come or gone, such as the first failure: there is nothing to put it in the place of.
      if (!isInUse(main)) main.replaceChildren(...fresh.childNodes);
    } else {
      for (const part of parts) {
        const shown = document.getElementById(part.id);
        if (isInUse(shown)) continue;
        const open = openDetails(shown);
        [...part.querySelectorAll("details")].forEach((one, at) => { if (open[at]) one.open = true; });
        if (shown.outerHTML !== part.outerHTML) shown.replaceWith(part);
      }
    }
    const said = fresh.dataset.say;
    if (said && said !== main.dataset.say) {
      main.dataset.say = said;
      announce.textContent = said;
    }
    if (fresh.dataset.refresh) main.dataset.refresh = fresh.dataset.refresh;
    else delete main.dataset.refresh;
  };

  const look = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { cache: "no-store", credentials: "same-origin" });
      if (answer.redirected && new URL(answer.url).pathname.endsWith("/login")) {
        location.reload();
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("main");
      if (fresh) put(fresh);
      updated.textContent = `Updated by itself at ${new Date().toLocaleTimeString()}.`;
      updated.classList.remove("bad");
    } catch {
      updated.textContent = "The service does not answer; this page is not up to date.";
      updated.classList.add("bad");
    }
  };

  const again = () => {
    const seconds = Number(main.dataset.refresh);
    if (!seconds) return;
    setTimeout(async () => { await look(); again(); }, seconds * 1000);
  };
  // The banner after a command has been read by then, and is not shown again by reloading.
  if (new URL(location.href).searchParams.has("done")) {
    const address = new URL(location.href);
    address.searchParams.delete("done");
    history.replaceState(null, "", address);
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden && main.dataset.refresh) look(); });
  again();
})();
