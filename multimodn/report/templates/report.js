(() => {
  "use strict";
  const key = "multimodn-report-theme";
  const states = ["auto", "light", "dark"];
  const root = document.documentElement;
  let state = "auto";
  const stored = (value) => {
    try {
      if (value !== undefined) localStorage.setItem(key, value);
      return localStorage.getItem(key);
    } catch {
      return null; // a browser may refuse storage to files
    }
  };
  const apply = () => {
    if (state === "auto") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", state);
  };
  if (states.includes(stored())) state = stored();
  apply();

  const toggle = () => {
    const button = document.getElementById("theme");
    const say = () => {
      const next = states[(states.indexOf(state) + 1) % states.length];
      button.textContent = `Theme: ${state}`;
      button.title = `Change to ${next}`;
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      state = states[(states.indexOf(state) + 1) % states.length];
      stored(state);
      apply();
      say();
    });
    say();
  };

  // Only what can be scrolled is a stop of the tab key; where more is at the right, it fades out there.
  const fade = (box) => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
  const stops = () => {
    for (const box of document.querySelectorAll(".drawing, .scroll")) {
      if (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
      fade(box);
      box.onscroll = () => fade(box);
    }
  };

  const follow = () => {
    const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
    const sections = [...document.querySelectorAll("main > section")];
    const mark = () => {
      let current = sections[0];
      for (const section of sections) if (section.getBoundingClientRect().top < innerHeight / 3) current = section;
      for (const [name, link] of links) {
        if (current && name === current.id) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    };
    addEventListener("scroll", mark, { passive: true });
    mark();
  };

  document.addEventListener("DOMContentLoaded", () => {
    toggle();
    stops();
    follow();
    addEventListener("resize", stops);
    for (const one of document.querySelectorAll("details")) one.addEventListener("toggle", stops);
  });
})();
