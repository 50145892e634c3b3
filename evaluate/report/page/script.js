"use strict";
// Everything here only adds comfort: without it all text, charts, films and the newest pictures are there.
const theme = document.getElementById("theme");
const dark = () => (document.documentElement.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const name = () => { theme.textContent = dark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => { document.documentElement.style.colorScheme = dark() ? "light" : "dark"; name(); });
theme.hidden = false;
name();

for (const figure of document.querySelectorAll(".looks")) {
  const slider = figure.querySelector("input"), told = figure.querySelector("output"), pictures = figure.querySelectorAll("img");
  if (!slider) continue;
  slider.addEventListener("input", () => {
    pictures.forEach((picture, place) => { picture.hidden = place !== Number(slider.value); });
    told.value = "update " + pictures[slider.value].dataset.update;
  });
  slider.closest("label").hidden = false;
}

const links = new Map([...document.querySelectorAll(".bar nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
document.querySelectorAll("main section").forEach((section) => seen.observe(section));

const closed = () => [...document.querySelectorAll("details:not([open])")];
let opened = [];
addEventListener("beforeprint", () => { opened = closed(); opened.forEach((one) => { one.open = true; }); });
addEventListener("afterprint", () => opened.forEach((one) => { one.open = false; }));
