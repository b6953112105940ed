// What a view reads: loading, then data or an error. A later answer never loses against an earlier one.

import { ApiError } from "../api/client";

export function asApiError(cause: unknown): ApiError {
  return cause instanceof ApiError ? cause : new ApiError("unexpected", String(cause));
}

export class Resource<T> {
  data = $state.raw<T | null>(null);
  error = $state.raw<ApiError | null>(null);
  #turn = 0;

  constructor(private readonly read: () => Promise<T>) {}

  get loading(): boolean {
    return this.data === null && this.error === null;
  }

  /** Reads (again). What is there stays until the answer comes; an error replaces nothing but the error. */
  async refresh(): Promise<void> {
    const turn = ++this.#turn;
    try {
      const data = await this.read();
      if (turn === this.#turn) this.set(data);
    } catch (cause) {
      if (turn === this.#turn) this.error = asApiError(cause);
    }
  }

  set(data: T): void {
    this.#turn += 1;
    this.data = data;
    this.error = null;
  }
}
