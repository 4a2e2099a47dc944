// The console: shows one of two views, and takes a transfer's token out of the address before anything else is done.

import * as operations from "./operations.js";
import { element } from "./page.js";
import * as transfer from "./transfer.js";

function showView() {
  const fragment = location.hash.slice(1);
  const token = new URLSearchParams(fragment).get("token");
  if (token !== null) {
    history.replaceState(null, "", location.pathname);
    transfer.open(token);
  }
  const isOperations = fragment === "operations";
  element("operations").hidden = !isOperations;
  element("transfer").hidden = isOperations;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === (isOperations ? "#operations" : "#transfer")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  operations.show(isOperations);
  return token !== null;
}

transfer.prepare();
operations.prepare();
addEventListener("hashchange", showView);
if (!showView()) transfer.reopen();
