// Who is signed in. A link signs in with `#token=…`; the token leaves the address at once, so that it is neither in the
// history nor in a copied link. It is kept in this browser until somebody signs out, or, if asked for, in the tab only.

import type { ApiError } from "./client";
import type { Info, Scope } from "./types";

const KEY = "lockstep.token";

function fromAddress(): string | null {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("token");
  if (token === null) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return token.trim() === "" ? null : token.trim();
}

class Session {
  token = $state<string | null>(null);
  /** Why the last token is no longer used, for the sign-in page. */
  refusal = $state.raw<ApiError | null>(null);
  /** What this pool is, and what the token allows. */
  info = $state.raw<Info | null>(null);

  constructor() {
    const token = fromAddress();
    if (token !== null) {
      sessionStorage.removeItem(KEY);
      localStorage.setItem(KEY, token);
    }
    this.token = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
    // Signing out in one tab signs out everywhere.
    addEventListener("storage", (event) => {
      if (event.key === KEY && event.newValue === null) this.signOut();
    });
    // A link with a token may be opened in a tab that shows the console already.
    addEventListener("hashchange", () => {
      const link = fromAddress();
      if (link !== null) this.signIn(link, false);
    });
  }

  signIn(token: string, tabOnly: boolean): void {
    (tabOnly ? sessionStorage : localStorage).setItem(KEY, token);
    this.refusal = null;
    this.info = null;
    this.token = token;
  }

  signOut(): void {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
    this.refusal = null;
    this.info = null;
    this.token = null;
  }

  /** The server does not take the token. */
  refused(error: ApiError): void {
    this.signOut();
    this.refusal = error;
  }

  /** Whether the token allows what asks for `scope`: it decides what is offered, the server what is done. */
  may(scope: Scope): boolean {
    const scopes = this.info?.scopes ?? [];
    if (scopes.includes("admin")) return true;
    return scopes.includes(scope) || (scope === "read" && scopes.includes("submit"));
  }
}

export const session = new Session();
