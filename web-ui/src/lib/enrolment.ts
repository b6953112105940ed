// Whose machines a token of the scope `worker` enrols, and what that means.

import type { Token, TokenRequest } from "../api/types";

export type Whose = "own" | "foreign" | "arbiter";

export const WHOSE: { name: Whose; words: string; meaning: string }[] = [
  {
    name: "own",
    words: "my own machines",
    meaning: "Each counts for itself, and fewer of them are assumed to be faulty. They are compared like all others.",
  },
  {
    name: "foreign",
    words: "somebody else's",
    meaning: "All machines of a domain count once where domains are compared, so that their owner cannot agree with himself.",
  },
  {
    name: "arbiter",
    words: "an arbiter of my own",
    meaning:
      "A trusted executor: it settles disputes and audits, its word decides, and it gets no ordinary work while others are there. For machines that nobody but you can touch.",
  },
];

/** The domain of the operator's own machines; what is in it is nobody else's. */
const LOCAL = "local";

type Enrolment = Pick<TokenRequest, "owned" | "foreign" | "arbiter" | "domain">;

/** What keeps the choice from being one, in words; null if nothing does. */
export function enrolmentProblem(whose: Whose, domain: string): string | null {
  const name = domain.trim();
  if (whose === "foreign" && name === "") return "Name the domain of these machines, such as their owner.";
  if (whose === "foreign" && name === LOCAL) return "“local” is the domain of your own machines: take another name.";
  return null;
}

/** The choice as a token asks for it. Own machines may have a domain too: then they count as one. */
export function enrolmentOf(whose: Whose, domain: string): Enrolment {
  const name = domain.trim();
  const where = name === "" || whose === "arbiter" ? {} : { domain: name };
  switch (whose) {
    case "own":
      return { owned: true, ...where };
    case "foreign":
      return { foreign: true, ...where };
    case "arbiter":
      return { arbiter: true };
  }
}

/** Whose machines a token enrols, in words; null if it enrols none. */
export function enrolmentWords({ scopes, owned, arbiter, domain }: Pick<Token, "scopes" | "owned" | "arbiter" | "domain">): string | null {
  if (!scopes.includes("worker")) return null;
  const whose = arbiter ? "an arbiter" : owned ? "own machines" : "somebody else's machines";
  return domain === null || domain === LOCAL ? whose : `${whose}, domain ${domain}`;
}
