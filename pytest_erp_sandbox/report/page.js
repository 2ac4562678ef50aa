"use strict";
(() => {
  const scenarios = [...document.querySelectorAll("details.scenario")];
  const features = [...document.querySelectorAll(".feature")];
  const chips = [...document.querySelectorAll("[data-show]")];
  const search = document.querySelector("input[type=search]");
  const fold = document.querySelector(".fold");
  const none = document.querySelector(".none");
  const texts = new Map();
  let show = "all";

  const textOf = (scenario) => {
    if (!texts.has(scenario)) {
      const feature = scenario.closest(".feature").querySelector("h2").textContent;
      texts.set(scenario, `${feature} ${scenario.textContent}`.toLowerCase());
    }
    return texts.get(scenario);
  };

  const isShown = (scenario) =>
    show === "all" || (show === "changed" ? scenario.dataset.changed === "1" : scenario.dataset.outcome === show);

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const scenario of scenarios) {
      const matches = isShown(scenario) && words.every((word) => textOf(scenario).includes(word));
      scenario.hidden = !matches;
      left += matches;
    }
    for (const feature of features) {
      feature.hidden = !feature.querySelector("details.scenario:not([hidden])");
    }
    none.hidden = left > 0;
    none.textContent = left ? "" : "No scenario matches.";
  };

  const unfold = (open) => {
    for (const scenario of scenarios) {
      if (!scenario.hidden) scenario.open = open;
    }
    fold.setAttribute("aria-pressed", String(open));
    fold.textContent = open ? "Fold all" : "Unfold all";
  };

  // What is linked to is seen, whatever was filtered.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const scenario = target && target.closest("details.scenario");
    if (!scenario) return;
    if (scenario.hidden) choose("all", "");
    for (let each = target; each; each = each.parentElement.closest("details")) each.open = true;
    target.scrollIntoView({ block: "start" });
  };

  const choose = (what, words) => {
    show = what;
    search.value = words;
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.show === show));
    filter();
  };

  for (const chip of chips) chip.addEventListener("click", () => choose(chip.dataset.show, search.value));
  search.addEventListener("input", filter);
  fold.addEventListener("click", () => unfold(fold.getAttribute("aria-pressed") !== "true"));
  window.addEventListener("hashchange", reveal);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== search && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && document.activeElement === search) {
      choose(show, "");
    }
  });

  // Paper has nothing to unfold.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const each of folded) each.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const each of folded) each.open = false;
  });

  reveal();
  document.documentElement.dataset.ready = "1";
})();
