// The token of this tab. A link signs in with `#token=…`; the token leaves the address at once, so that it is neither
// in the history nor in a copied link. It is kept for the tab only.

const KEY = "lockstep.token";

function fromAddress(): string | null {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("token");
  if (token === null) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return token;
}

class Session {
  token = $state<string | null>(null);
  /** Why the last token is no longer used, for the sign-in page. */
  reason = $state<string | null>(null);

  constructor() {
    const token = fromAddress();
    if (token !== null) sessionStorage.setItem(KEY, token);
    this.token = sessionStorage.getItem(KEY);
  }

  signIn(token: string): void {
    sessionStorage.setItem(KEY, token);
    this.reason = null;
    this.token = token;
  }

  signOut(reason: string | null = null): void {
    sessionStorage.removeItem(KEY);
    this.reason = reason;
    this.token = null;
  }
}

export const session = new Session();
