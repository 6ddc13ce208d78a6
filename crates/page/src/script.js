(() => {
  const root = document.documentElement;
  const levels = [...document.querySelectorAll(".level")];
  const buttons = [...document.querySelectorAll("[data-show]")];
  const show = (id) => {
    for (const level of levels) level.hidden = level.id !== id;
    for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.show === id);
  };
  for (const button of buttons) button.addEventListener("click", () => show(button.dataset.show));
  for (const link of document.querySelectorAll('a[href^="#level-"]')) {
    link.addEventListener("click", () => show(link.hash.slice(1)));
  }
  const first = buttons.find((button) => button.getAttribute("aria-pressed") === "true");
  if (first) show(first.dataset.show);

  const theme = document.getElementById("theme");
  theme.addEventListener("click", () => {
    const next = { "": "light", light: "dark", dark: "" }[root.dataset.theme || ""];
    root.dataset.theme = next;
    theme.textContent = theme.dataset[next || "system"];
  });
  root.classList.add("js");
})();
