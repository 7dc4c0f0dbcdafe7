// Sets the theme before the page is drawn, so that it does not flash.
"use strict";
(() => {
  const theme = localStorage.getItem("caxton.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
