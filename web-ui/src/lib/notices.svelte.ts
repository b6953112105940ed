// Short messages about what was just done, and questions before what can't be undone.

export interface Notice {
  id: number;
  text: string;
  tone: "good" | "bad";
}

class Notices {
  list = $state<Notice[]>([]);
  #last = 0;

  say(text: string, tone: Notice["tone"] = "good"): void {
    const id = ++this.#last;
    this.list = [...this.list.slice(-3), { id, text, tone }];
    setTimeout(() => this.dismiss(id), tone === "good" ? 5_000 : 12_000);
  }

  dismiss(id: number): void {
    this.list = this.list.filter((notice) => notice.id !== id);
  }
}

export const notices = new Notices();

export interface Question {
  title: string;
  text: string;
  /** Words of the button that does it. */
  act: string;
  danger?: boolean;
  /** Label of a reason that must be given. */
  reason?: string;
}

class Questions {
  open = $state.raw<(Question & { answer: (answer: string | null) => void }) | null>(null);

  /** The reason (or an empty text) when it is confirmed, null when it is not. */
  ask(question: Question): Promise<string | null> {
    this.open?.answer(null);
    return new Promise((resolve) => {
      const answer = (text: string | null) => {
        this.open = null;
        resolve(text);
      };
      this.open = { ...question, answer };
    });
  }
}

export const questions = new Questions();
