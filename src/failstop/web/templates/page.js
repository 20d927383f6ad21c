"use strict";

// The page renews itself: it asks for itself again and takes over what is different, so that a
// reader's place, an open table and what is typed into a form stay. When no answer comes it says
// so, and since when: what is old must not look like what is.
(() => {
  const EVERY = 2000;
  const PATIENCE = 8000;
  const announcement = document.getElementById("announcement");
  const lost = document.getElementById("lost");
  const form = document.getElementById("reset");
  let heard = Date.now();
  let timer = 0;

  // Make `old` what `fresh` is, node by node.
  const renew = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(document.importNode(fresh, true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const name of old.getAttributeNames()) {
      if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const name of fresh.getAttributeNames()) {
      const value = fresh.getAttribute(name);
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const mine = [...old.childNodes];
    const theirs = [...fresh.childNodes];
    theirs.forEach((node, at) => {
      if (at < mine.length) renew(mine[at], node);
      else old.append(document.importNode(node, true));
    });
    mine.slice(theirs.length).forEach((node) => node.remove());
  };

  const announce = (before, after) => {
    if (after && before !== after) announcement.textContent = after;
  };

  // The reset names the epoch that the person saw: it stays once they began to write.
  const renewEpoch = (fresh) => {
    if (!form || !fresh) return;
    const known = form.elements.epoch;
    const now = fresh.elements.epoch.value;
    const notice = document.getElementById("reset-changed");
    const isTouched = ["actor", "reason", "token"].some((name) => form.elements[name].value);
    if (!isTouched) known.value = now;
    notice.hidden = known.value === now;
    notice.textContent = notice.hidden ? "" : `The state has changed since you began: epoch ${now}, not ${known.value}. Look at it again; reload this page to reset it.`;
  };

  const take = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const state = fresh.getElementById("state");
    if (!state) throw new Error("no status");
    const before = document.getElementById("state").dataset.announce;
    document.documentElement.dataset.tone = fresh.documentElement.dataset.tone;
    document.title = fresh.title;
    document.querySelector("link[rel=icon]").href = fresh.querySelector("link[rel=icon]").href;
    renew(document.getElementById("live"), fresh.getElementById("live"));
    renew(document.getElementById("state"), state);
    renew(document.querySelector("main > .columns"), fresh.querySelector("main > .columns"));
    renewEpoch(fresh.getElementById("reset"));
    announce(before, state.dataset.announce);
    heard = Date.now();
    lost.hidden = true;
    delete document.documentElement.dataset.lost;
  };

  const lose = () => {
    const moment = new Date(heard).toISOString().slice(11, 19);
    const text = `The service does not answer. What is shown here was so at ${moment} UTC, and may not be so any more.`;
    if (lost.textContent !== text) lost.textContent = text;  // said once to who hears the page
    lost.hidden = false;
    document.documentElement.dataset.lost = "";
  };

  const look = async () => {
    clearTimeout(timer);
    try {
      const answer = await fetch("?live", {
        headers: { Accept: "text/html" },
        cache: "no-store",
        signal: AbortSignal.timeout(PATIENCE),
      });
      take(await answer.text());
    } catch {
      lose();
    }
    if (!document.hidden) timer = setTimeout(look, EVERY);
  };

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) look();
  });
  timer = setTimeout(look, EVERY);
})();
