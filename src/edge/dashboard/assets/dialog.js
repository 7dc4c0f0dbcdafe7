// The dialog for confirmations and for showing a document.

import { byId, describe } from "./dom.js";

const dialog = byId("dialog");
const problem = dialog.querySelector(".problem");
/** What had the focus before, and the table that gets it if that is gone with its row. */
let opener = null;
let table = null;

/** Shows a text and a document; `ok` carries out what was confirmed, and the dialog stays open if that fails. */
function open({ title, text = "", document: shown = "", name = "", danger = false, ok }) {
  byId("dialog-title").textContent = title;
  byId("dialog-text").textContent = text;
  byId("dialog-pre").textContent = shown;
  byId("dialog-pre").hidden = !shown;
  problem.hidden = true;
  const [confirm, cancel] = [byId("dialog-ok"), byId("dialog-cancel")];
  confirm.hidden = !ok;
  confirm.disabled = false;
  confirm.textContent = name;
  confirm.classList.toggle("danger", danger);
  cancel.textContent = ok ? "Cancel" : "Close";
  confirm.onclick = async () => {
    confirm.disabled = true;
    try {
      await ok();
      dialog.close();
    } catch (error) {
      problem.textContent = describe(error);
      problem.hidden = false;
      confirm.disabled = false;
      // A disabled button has lost the focus.
      confirm.focus();
    }
  };
  cancel.onclick = () => dialog.close();
  opener = document.activeElement;
  table = opener.closest("section")?.querySelector(".table");
  dialog.showModal();
  // What changes nothing has the focus.
  cancel.focus();
}

dialog.addEventListener("close", () => {
  if (!opener.isConnected) table?.focus();
});

/** Asks before something is done. */
export const confirmed = (title, text, name, ok, danger = false) => open({ title, text, name, ok, danger });

export const show = (title, text, document) => open({ title, text, document });
