// Made from tests/openapi.json by `npm run schema`. Don't edit it.

export interface paths {
    "/healthz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Is the process alive?
         * @description Needs no token.
         */
        get: operations["healthz"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the figures
         * @description OpenMetrics text, for Prometheus. Needs a token with the scope `read`.
         */
        get: operations["metrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read this document
         * @description Needs no token.
         */
        get: operations["openapi_json"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/readyz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Does it take submissions?
         * @description Needs no token. Answers 503 with `unavailable` while it starts or stops.
         */
        get: operations["readyz"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/blobs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Upload bytes
         * @description Streamed and hashed on the way. What nothing refers to within a day may be collected.
         */
        post: operations["post_blob"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/blobs/{digest}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read bytes
         * @description One range may be asked for. HEAD answers the size only.
         */
        get: operations["get_blob"];
        /**
         * Upload bytes whose digest is known
         * @description Refused with `digest_mismatch` when the bytes hash to something else.
         */
        put: operations["put_blob"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/cache": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read the cache's figures */
        get: operations["get_cache"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/cache/withdraw": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Withdraw cached results
         * @description What was computed up to now and meets all that is named answers no run any more. Runs that were answered before stay as
         *     they are. What rests on a worker is withdrawn by itself when the worker is quarantined, what a module gave when its
         *     trusted executions differ.
         */
        post: operations["withdraw"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/callbacks/secret": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the secret of callbacks
         * @description With it receivers check the header `webhook-signature`. Needs the scope `admin`.
         */
        get: operations["get_secret"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/callbacks/secret/rotate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Replace the secret of callbacks
         * @description For a day callbacks carry a signature of the old one too, so that receivers can take up the new one meanwhile; one that was
         *     replaced before signs no more. With an Idempotency-Key a request that is sent again (its answer was lost) replaces nothing
         *     again: without one, the secret of the first answer would be the old one then. Needs the scope `admin`.
         */
        post: operations["rotate_secret"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Watch the pool
         * @description Server-sent events. `open`: from here on nothing is missed. `run`, `worker`, `module`: the one with this `id` changed (`Changed`); read it again if it is shown.
         *     `corrected`: the final of a run was wrong, and is of this revision now (`Correction`).
         *     `resync`: some were lost, because the reader was too slow or because the stream was opened again (`Last-Event-ID` says
         *     that there was one before; what came in between is not kept): read everything again (`Resync`).
         */
        get: operations["pool_events"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/info": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read what this pool is and allows */
        get: operations["info"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the coordinator's public keys
         * @description Those that receipts are signed with, the newest first, with the time in which each signed: old ones stay, so that old
         *     receipts can be checked. Needs no token.
         */
        get: operations["list_keys"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/keys/rotate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Replace the coordinator's key
         * @description Receipts are signed with a new one from now on; those of before stay valid. Needs the scope `admin`.
         */
        post: operations["rotate_key"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/modules": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List modules
         * @description Newest first. An `analysis` of more than 64 KiB comes without its imports and exports (empty lists): read that module
         *     for them.
         */
        get: operations["list_modules"];
        put?: never;
        /**
         * Upload a module
         * @description The body is the raw wasm, streamed and hashed on the way. It is validated and analysed before the answer; a
         *     module that can never run here is refused with `module_refused` and a stable `refusal` code.
         */
        post: operations["post_module"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/modules/{digest}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read a module */
        get: operations["get_module"];
        /**
         * Upload a module whose digest is known
         * @description Refused with `digest_mismatch` when the bytes hash to something else.
         */
        put: operations["put_module"];
        post?: never;
        /**
         * Delete a module
         * @description Refused with `module_in_use` while a run of it has not ended. Needs the scope `admin`.
         */
        delete: operations["delete_module"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/modules/{digest}/call": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Call a module
         * @description The body is standard input, the answer the standard output that was agreed on (for a plain function its values, one per
         *     line). The headers `Lockstep-Run`, `Lockstep-Result`, `Lockstep-Verdict` and `Lockstep-Outcome` tell how it came about,
         *     and `Lockstep-Cached-From` which run computed it, if it was cached.
         *     A run that fails is answered with `run_failed` or `run_timed_out`, one that has not ended within `wait_ms` with
         *     `run_unfinished`; each carries the run. A caller that goes away does not stop the run.
         */
        post: operations["call_module"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/modules/{digest}/content": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a module's bytes
         * @description One range may be asked for. HEAD answers the size only.
         */
        get: operations["get_content"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/modules/{digest}/quarantine": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Take a module out of service
         * @description New runs of it are refused with `module_quarantined`. Needs the scope `admin`.
         */
        post: operations["quarantine_module"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/modules/{digest}/readmit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Put a module back into service
         * @description Needs the scope `admin`.
         */
        post: operations["readmit_module"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/modules/{digest}/verify": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Say how a module's runs are verified
         * @description Those that ask for nothing else. Needs the scope `admin`.
         */
        put: operations["put_verify"];
        post?: never;
        /**
         * Leave it to the pool how a module's runs are verified
         * @description Needs the scope `admin`.
         */
        delete: operations["delete_verify"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/pool/session": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Join as a worker
         * @description A WebSocket of binary messages, spoken by `lockstep worker` of the same protocol version; not for other clients. A worker
         *     whose key is not known yet needs a token with the scope `worker`; one that is known needs none.
         */
        get: operations["join_pool"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/repairs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List what is verified anew
         * @description One item for each worker that was quarantined, on one page, the latest first: how many finals rested on it, and what
         *     became of those that would not have been without it. A final that turns out wrong is replaced by its next revision, and
         *     so is that of every run which had been answered with it (`dependents`).
         */
        get: operations["list_repairs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List runs
         * @description Newest first. One request looks at a bounded number of runs: a page may hold fewer items than asked for, even none, and
         *     still have a `next`, with which the search goes on.
         */
        get: operations["list_runs"];
        put?: never;
        /**
         * Submit a run
         * @description With `wait_ms` the answer waits for the run's end; without, or if it has not ended by then, it shows the run as it
         *     is. A failed run is an answer too: look at `state`. With an Idempotency-Key the same request makes one run, however
         *     often it is sent; another request with that key is refused with `idempotency_mismatch`.
         *
         *     With `cache: use`, the default, a verified result of an equal run answers at once: `cached` is true, and `cached_from` names
         *     the run that computed it. Such an answer is given before the new run is written, which follows within moments; a
         *     coordinator that dies in between does not know its id any more, and answers the same submission with the same
         *     result. With an Idempotency-Key, or with `durable: true` said in so many words, the answer waits until it is written. If
         *     that run is corrected later, so is this one.
         */
        post: operations["post_run"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Cancel several runs
         * @description As `POST /v1/runs/{id}/cancel`, once for each. The answer has one item for each run that was named, in the same order,
         *     when all of them are final or the wait is over. One that is not final then has `pending: true`: it is canceled all the
         *     same, as soon as its end can be written.
         */
        post: operations["cancel_runs"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/rerun": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Submit several runs again
         * @description As `POST /v1/runs/{id}/rerun`, once for each. The answer has one item for each run that was named, in the same order,
         *     when all of the new ones are acknowledged.
         */
        post: operations["rerun_runs"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a run
         * @description As it is or, with `revision`, as its final was before it was corrected.
         */
        get: operations["get_run"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/attempts/{number}/files/{path}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a file that an attempt left
         * @description `path` is the file's path in the guest without its first slash, for instance `out/plot.png`. Of an attempt whose result
         *     won, or was kept because it lost; `gone` if it was not. One range may be asked for.
         */
        get: operations["get_attempt_file"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/attempts/{number}/stderr": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the standard error of an attempt
         * @description Of one whose result won, or was kept because it lost; `gone` if it was not. One range may be asked for.
         */
        get: operations["get_attempt_stderr"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/attempts/{number}/stdout": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the standard output of an attempt
         * @description Of one whose result won, or was kept because it lost; `gone` if it was not. One range may be asked for.
         */
        get: operations["get_attempt_stdout"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/callbacks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List a run's callbacks
         * @description A delivery for each revision that became final, by revision, on one page; none of a run without a `callback`, or one that
         *     has not ended.
         */
        get: operations["list_callbacks"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/callbacks/redeliver": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Deliver a callback again
         * @description However it went before: its tries and its time count anew. The receiver knows it by the same `webhook-id`.
         */
        post: operations["redeliver_callback"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Cancel a run
         * @description A run that has ended stays as it is and is the answer: every caller hears the same. Where its end is not written within
         *     ten seconds (a disk that is full or slow), the answer is the run as it is, and it is canceled without the caller.
         */
        post: operations["cancel_run"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/diff": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Compare two attempts
         * @description Byte by byte, on the server: whether the outputs are equal, where the first difference is, and a few bytes around it.
         *     With it: which rule decided, what an arbiter found, and whether those who lost were blamed. Of results that lost a vote
         *     one is kept for each digest; `gone` if one of the two was not.
         */
        get: operations["diff"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Watch a run
         * @description Server-sent events. A stream that is opened again begins anew: nothing is lost. `run`: the run, at first and whenever it changes (`Run`). `output`: what an attempt writes, as it writes
         *     it, not verified, and anew on a rerun (`LiveOutput`). `end`: the run is final (`RunEnd`); nothing follows, unless `corrections` are asked for: then the stream stays open, and
         *     `corrected` says that the final was wrong and is another one now (`Correction`), with the run behind it.
         */
        get: operations["run_events"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/files/{path}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a file that a run left
         * @description `path` is the file's path in the guest without its first slash, for instance `out/plot.png`. One range may be asked for.
         */
        get: operations["get_file"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/receipt": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a run's receipt
         * @description The signed certificate of a final result, which anybody can check offline (`lockstep verify`): a DSSE envelope around an
         *     in-toto statement. It is signed when it is asked for; every byte of it counts. There is none (`no_receipt`) of a run that
         *     has not ended, has no result, was submitted with `durable: false`, or ended before receipts were kept.
         */
        get: operations["get_receipt"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/rerun": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Submit a run again
         * @description A new run of the same spec and policy; its `rerun_of` names the earlier one. It is executed anew, and its result replaces
         *     what is cached. A run with `durable: false` cannot be rerun.
         */
        post: operations["rerun_run"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/revisions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the revisions of a run
         * @description The first one first, on one page; empty while the run has not ended. `GET /v1/runs/{id}?revision=` reads each with its
         *     attempts and explanations, and so do `stdout`, `stderr`, `files`, `receipt` and `diff`.
         */
        get: operations["list_revisions"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/stderr": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a run's standard error
         * @description The output of the result, once the run has ended. One range may be asked for.
         */
        get: operations["get_stderr"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/runs/{id}/stdout": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a run's standard output
         * @description The output of the result, once the run has ended. One range may be asked for.
         */
        get: operations["get_stdout"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/stats": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the pool at a glance
         * @description Workers, slots, queue, what happened in the last hour, and what is stored. What is about runs counts the caller's
         *     workspace only. What is stored is counted at most every two seconds.
         */
        get: operations["stats"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/stats/series": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the figures of each minute
         * @description For plots: what happened to the runs of the caller's workspace. It is counted in memory; after a restart the runs
         *     that ended within the hour before are counted again, and `since` says from when on nothing is missing.
         */
        get: operations["series"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List tokens
         * @description Without their secrets, on one page.
         */
        get: operations["list_tokens"];
        put?: never;
        /**
         * Make a token
         * @description The answer is the only place where its secret is ever shown.
         */
        post: operations["post_token"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/tokens/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Delete a token
         * @description It stops working at once.
         */
        delete: operations["delete_token"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List workers
         * @description All that are enrolled, on one page: also those that are not connected.
         */
        get: operations["list_workers"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workers/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a worker
         * @description With the attempts that it holds, and the newest of what was seen of it.
         */
        get: operations["get_worker"];
        put?: never;
        post?: never;
        /**
         * Forget a worker
         * @description One that is not connected, and will not come back. If it does, it enrols anew, under another number.
         */
        delete: operations["forget_worker"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workers/{id}/drain": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Drain a worker
         * @description It gets no new work and finishes what it holds.
         */
        post: operations["drain_worker"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workers/{id}/evidence": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List what was seen of a worker
         * @description Dissents, faults and confirmations, the newest first. An operator's retention forgets old ones: see `retention` of `GET /v1/info`.
         */
        get: operations["worker_evidence"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workers/{id}/quarantine": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Quarantine a worker
         * @description It gets nothing and its votes count for nothing until it is readmitted.
         */
        post: operations["quarantine_worker"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workers/{id}/readmit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Readmit a worker
         * @description After a drain or a quarantine.
         */
        post: operations["readmit_worker"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workspaces/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a workspace
         * @description Only the token's own is there: `workspace` of `GET /v1/info` is its name, `default` so far.
         */
        get: operations["get_workspace"];
        /**
         * Settle what holds for all runs of a workspace
         * @description `verify` is how its runs are verified that ask for nothing else and whose module has no default of its own: the run's own
         *     word goes first, then its module's, then its workspace's, then the pool's. The whole is replaced. Needs the scope `admin`.
         */
        put: operations["put_workspace"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description What trusted executors of the operator found when they executed a run. */
        Arbitration: {
            /** @description Numbers of the attempts of others that named the same; none if the arbiters did not agree with each other. */
            agreed_with: number[];
            /**
             * Format: int32
             * @description How often they executed it to the end.
             */
            executions: number;
            /**
             * @description The different results that they named, in the order in which they did: more than one means that the module is
             *     nondeterministic.
             */
            results: components["schemas"]["Digest"][];
        };
        /** @description One execution of a run on one worker. */
        Attempt: {
            /** @description When it was handed out. */
            assigned_at: components["schemas"]["Timestamp"];
            /**
             * Format: double
             * @description CPU time used, in milliseconds.
             */
            cpu_ms: number;
            ended_at: components["schemas"]["Timestamp"] | null;
            fault: components["schemas"]["Fault"] | null;
            /** @description The run's id, a dot and the number. */
            id: components["schemas"]["AttemptId"];
            /**
             * Format: int32
             * @description From 1.
             */
            number: number;
            outcome: components["schemas"]["Outcome"] | null;
            result: components["schemas"]["Digest"] | null;
            started_at: components["schemas"]["Timestamp"] | null;
            /** @description Where it stands. */
            state: components["schemas"]["AttemptStateName"];
            /** @description Whether that is the result that won; null while undecided. */
            won: boolean | null;
            /** @description Who held it. */
            worker: components["schemas"]["WorkerId"];
        };
        /**
         * @description The run's id, a dot and the attempt's number
         * @example 01920000-0000-7000-8000-000000000001.1
         */
        AttemptId: string;
        /**
         * @description Where an attempt stands.
         * @enum {string}
         */
        AttemptStateName: "assigned" | "begun" | "voted" | "faulted" | "canceled";
        /** @description A stored blob. */
        Blob: {
            /** @description Digest of the bytes. */
            digest: components["schemas"]["Digest"];
            /**
             * Format: int64
             * @description Their number.
             */
            size: number;
        };
        /** @description The bounds of what is taken. */
        Bounds: {
            /**
             * Format: int64
             * @description Largest blob, in bytes.
             */
            blob_bytes_max: number;
            /**
             * Format: int64
             * @description Runs that one bulk call may name.
             */
            bulk_runs_max: number;
            /**
             * Format: int64
             * @description Connections at once.
             */
            connections_max: number;
            /**
             * Format: int64
             * @description Event streams at once.
             */
            event_streams_max: number;
            /**
             * Format: int64
             * @description Largest JSON body, in bytes.
             */
            json_bytes_max: number;
            /**
             * Format: int64
             * @description Largest module, in bytes.
             */
            module_bytes_max: number;
            /**
             * Format: int64
             * @description Items of a page.
             */
            page_items_max: number;
            /**
             * Format: int64
             * @description Runs that may be queued or running at once.
             */
            runs_max: number;
            /**
             * Format: int64
             * @description The same for one workspace.
             */
            runs_per_workspace_max: number;
        };
        /** @description One minute. */
        Bucket: components["schemas"]["Tally"] & {
            /** @description When it begins. */
            at: components["schemas"]["Timestamp"];
        };
        /** @description How it went with one of them; exactly one of `run` and `problem` is there. */
        BulkItem: {
            /** @description The run that was named. */
            id: components["schemas"]["RunId"];
            /** @description Whether it was done, or is being done. */
            ok: boolean;
            /** @description Whether it is still being done: a cancel that was taken while the end of its run is not written yet. */
            pending: boolean;
            problem?: components["schemas"]["Problem"] | null;
            run?: components["schemas"]["RunSummary"] | null;
        };
        /** @description One page of a list */
        BulkItemPage: {
            items: components["schemas"]["BulkItem"][];
            /** @description `cursor` of the next page; null on the last one */
            next: string | null;
        };
        /** @description Several runs at once. */
        BulkRequest: {
            /** @description Which, 1 to 500, each once. */
            ids: components["schemas"]["RunId"][];
        };
        /**
         * @description Whether an earlier verified result may answer a run.
         * @enum {string}
         */
        CacheUse: "use" | "refresh" | "off";
        /** @description The cache as the caller's workspace sees it. Counts are since the coordinator started. */
        CacheView: {
            /**
             * Format: int64
             * @description Results older than this answer nothing, in milliseconds.
             */
            age_ms: number;
            /**
             * Format: int64
             * @description Memory that they take, in bytes, about.
             */
            bytes: number;
            /**
             * Format: int64
             * @description Memory that they may take, in bytes, of all workspaces.
             */
            bytes_max: number;
            /**
             * Format: int64
             * @description Results that may answer equal runs.
             */
            entries: number;
            /**
             * Format: int64
             * @description Results that are kept at most, of all workspaces; 0: the cache is off.
             */
            entries_max: number;
            /**
             * Format: int64
             * @description Runs that one of them answered.
             */
            hits: number;
            /**
             * Format: int64
             * @description Runs with `cache: use` that none could answer.
             */
            misses: number;
            /**
             * Format: int64
             * @description Results that were withdrawn.
             */
            withdrawn: number;
        };
        /** @description The delivery of one revision of a run to its callback. */
        CallbackDelivery: {
            /** @description When its revision became final. */
            created_at: components["schemas"]["Timestamp"];
            /** @description What is told. */
            event: components["schemas"]["CallbackEventName"];
            /** @description What the header `webhook-id` says at every try: the run's id, `_` and the revision. */
            id: string;
            last_at: components["schemas"]["Timestamp"] | null;
            /** @description Why it failed; null if it did not. */
            last_error: string | null;
            /**
             * Format: int32
             * @description The HTTP status that it was answered with; null if it was not.
             */
            last_status: number | null;
            next_at: components["schemas"]["Timestamp"] | null;
            /**
             * Format: int32
             * @description Which revision became final.
             */
            revision: number;
            /** @description Where it stands. */
            state: components["schemas"]["DeliveryStateName"];
            /**
             * Format: int32
             * @description Tries that have ended since it was made, or asked for again.
             */
            tries: number;
            /** @description Where to. */
            url: string;
        };
        /** @description One page of a list */
        CallbackDeliveryPage: {
            items: components["schemas"]["CallbackDelivery"][];
            /** @description `cursor` of the next page; null on the last one */
            next: string | null;
        };
        /** @description The body of a callback. */
        CallbackEvent: {
            /**
             * @description The run as `GET /v1/runs/{id}` shows it at the moment of the try: look at its `revision`. Outputs above 4 KiB are
             *     there by digest and size only.
             */
            data: components["schemas"]["Run"];
            /** @description Lists of the run that were emptied because the body would have passed 256 KiB. */
            omitted?: string[];
            /** @description When it happened. */
            timestamp: components["schemas"]["Timestamp"];
            /** @description What happened. */
            type: components["schemas"]["CallbackEventName"];
        };
        /**
         * @description What is told.
         * @enum {string}
         */
        CallbackEventName: "run.final" | "run.corrected";
        /** @description Who is told when the run is final. */
        CallbackRequest: {
            /**
             * @description An `https` URL of up to 2048 bytes, without user, password and fragment. Addresses that are not of the public
             *     internet, and plain `http`, need the operator's word (`lockstep serve --callback-allow`).
             */
            url: string;
        };
        /** @description What callbacks are signed with. */
        CallbackSecret: {
            previous: components["schemas"]["PreviousSecret"] | null;
            /** @description `whsec_` and base64 of 32 bytes. */
            secret: string;
            /** @description Since when it signs. */
            since: components["schemas"]["Timestamp"];
        };
        /** @description Data of the events `run`, `worker` and `module` of the pool's stream: something changed, read it again. */
        Changed: {
            /** @description Id of the run or worker, digest of the module. */
            id: string;
        };
        /** @description What a class is made of. */
        ClassInputs: {
            /** @description The build of Lockstep: the host functions are its own. */
            build: string;
            /** @description Digest of the answers to the golden corpus. */
            corpus: components["schemas"]["Digest"];
            /** @description The fixed CPU feature list, where machine code must be the same. */
            cpu?: string[];
            /** @description The engine's version. */
            engine: string;
            /** @description What each engine's machine code is compatible with, without fuel and with it: covers every flag. */
            engines?: components["schemas"]["Digest"][];
            /** @description The switches' name. */
            policy: string;
            /** @description The target triple, where machine code must be the same. */
            target?: string;
        };
        /**
         * @description RFC 3339, or `now` for the time of submission
         * @example 2026-01-01T00:00:00Z
         */
        Clock: string;
        /** @description What two attempts gave out, compared byte by byte. */
        Comparison: {
            arbiter: components["schemas"]["Arbitration"] | null;
            /** @description Everything in which the two results differ: `outcome`, `fuel`, and streams as in `stream`; 100 at most. */
            differing: string[];
            /** @description Whether there are more than are listed. */
            differing_more: boolean;
            /** @description Whether the bytes of this stream are equal. */
            equal: boolean;
            /**
             * Format: int64
             * @description Position of the first byte that differs, or where the shorter one ends; null if they are equal.
             */
            first_difference: number | null;
            /** @description The one side. */
            left: components["schemas"]["Side"];
            /** @description All votes of the run that lost, and whether they were held against their workers; if no result won, all votes. */
            outvoted: components["schemas"]["Outvoted"][];
            /** @description The other. */
            right: components["schemas"]["Side"];
            /** @description Which rule decided between the results of the run, as a sentence without its full stop. */
            rule: string;
            /** @description Of which run. */
            run: components["schemas"]["RunId"];
            /** @description What is compared: `stdout`, `stderr` or `file:/out/PATH`. */
            stream: string;
        };
        /**
         * @description How verifying a final anew ended.
         * @enum {string}
         */
        ConclusionName: "confirmed" | "corrected" | "undecided" | "nondeterministic" | "not_verifiable";
        /** @description Data of the event `corrected`: a final was wrong, and is of this revision now. Read the run again. */
        Correction: {
            /** @description Which run. */
            id: components["schemas"]["RunId"];
            /**
             * Format: int32
             * @description What it is now.
             */
            revision: number;
        };
        /** @description An attempt that a worker holds. */
        CurrentAttempt: {
            /**
             * Format: double
             * @description CPU time used up to the last heartbeat, in milliseconds.
             */
            cpu_ms: number;
            /**
             * Format: int32
             * @description Its number.
             */
            number: number;
            /** @description Of which run. */
            run: components["schemas"]["RunId"];
            /** @description When it was handed out. */
            since: components["schemas"]["Timestamp"];
            started_at: components["schemas"]["Timestamp"] | null;
        };
        /**
         * @description Where a delivery stands.
         * @enum {string}
         */
        DeliveryStateName: "pending" | "delivered" | "given_up";
        /**
         * @description SHA-256 of bytes
         * @example sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
         */
        Digest: string;
        /** @description One observation about a worker. */
        EvidenceItem: {
            /** @description When. */
            at: components["schemas"]["Timestamp"];
            /**
             * Format: int32
             * @description Which attempt.
             */
            attempt: number | null;
            /** @description The worker's class then. */
            class: components["schemas"]["Digest"];
            /**
             * Format: int32
             * @description Results that a confirmation stands for; 1 of everything else.
             */
            count: number;
            /**
             * @description What was seen: `crashed`, `timed_out`, `lost`, `corrupt`, `refused` or `dissented`; of its integrity `confirmed`,
             *     `confirmed_by_arbiter`, `lone_dissent` or `collusion`, or `absolved`: what that run had said against it is taken back;
             *     or that an operator let it in again: `readmitted`.
             */
            kind: string;
            /**
             * Format: int64
             * @description Its position in the worker's log: grows with time.
             */
            number: number;
            result: components["schemas"]["Digest"] | null;
            run: components["schemas"]["RunId"] | null;
        };
        /** @description One page of a list */
        EvidenceItemPage: {
            items: components["schemas"]["EvidenceItem"][];
            /** @description `cursor` of the next page; null on the last one */
            next: string | null;
        };
        /** @description What was seen of a worker. */
        EvidenceView: {
            /** @description Observations that are kept, by kind. */
            counts: {
                [key: string]: number;
            };
            /** @description The newest 50; `GET /v1/workers/{id}/evidence` has the others. */
            recent: components["schemas"]["EvidenceItem"][];
        };
        /** @description One decision in words. */
        Explanation: {
            /** @description When. */
            at: components["schemas"]["Timestamp"];
            /** @description A sentence without its full stop. */
            text: string;
        };
        /**
         * @description Why a run failed.
         * @enum {string}
         */
        FailReason: "exit_code" | "trap" | "out_of_fuel" | "output_limit" | "timed_out" | "crashed" | "poisoned" | "lost" | "no_quorum" | "expired" | "module_refused" | "nondeterministic";
        /** @description What the infrastructure did to an attempt. Never votes; leads to a rerun. */
        Fault: {
            /** @description What is known beyond the signal. */
            detail: string;
            /** @enum {string} */
            kind: "crashed";
            /**
             * Format: int32
             * @description The signal that ended it, if one did.
             */
            signal?: number | null;
        } | {
            /** @enum {string} */
            kind: "timed_out";
        } | {
            /** @enum {string} */
            kind: "lost";
        } | {
            /** @description The worker's words. */
            detail: string;
            /** @enum {string} */
            kind: "refused";
        } | {
            /** @description What did not match. */
            detail: string;
            /** @enum {string} */
            kind: "corrupt";
        } | {
            /** @enum {string} */
            kind: "drained";
        };
        /** @description The last hour, as far as it was counted. */
        HourCounts: components["schemas"]["Tally"] & {
            /** @description Since when it is counted: an hour ago, or later if the coordinator has not known for so long. */
            since: components["schemas"]["Timestamp"];
        };
        /** @description What this pool is and allows. */
        Info: {
            /** @description The bounds of what is taken. */
            bounds: components["schemas"]["Bounds"];
            /** @description Classes of the workers; one, in a pool of equal machines. */
            classes: components["schemas"]["Digest"][];
            /**
             * Format: int64
             * @description The largest JSON body of a request, in bytes; larger inputs go as blobs, by digest.
             */
            json_bytes_max: number;
            /** @description What a run gets that asks for nothing. */
            limits_default: components["schemas"]["LimitsView"];
            /** @description The most that a run may ask for. */
            limits_max: components["schemas"]["LimitsView"];
            /** @description What a run gets that asks for no policy. */
            policy_default: components["schemas"]["PolicyView"];
            /** @description How busy the pool is. */
            pool: components["schemas"]["PoolFigures"];
            /** @description What is kept, and how long. */
            retention: components["schemas"]["RetentionView"];
            /** @description What the caller's token allows. */
            scopes: components["schemas"]["Scope"][];
            /** @description Facts of the coordinator's process. */
            server: components["schemas"]["ServerFacts"];
            /** @description How much is stored. */
            stored: components["schemas"]["StoredFigures"];
            /** @description Version of the coordinator. */
            version: string;
            /**
             * Format: int64
             * @description The longest `wait_ms`.
             */
            wait_ms_max: number;
            /** @description The caller's workspace. */
            workspace: string;
        };
        /** @description Bytes of an input: as text, as base64, or by the digest of an uploaded blob. Exactly one of them. */
        InputBytes: {
            /** @description UTF-8 text. */
            text: string;
        } | {
            /** @description Standard base64 with padding. */
            base64: string;
        } | {
            /** @description An uploaded blob. */
            digest: components["schemas"]["Digest"];
        };
        /** @description What is put at a path: a file's bytes, or a directory packed into one blob. Exactly one of them. */
        InputFile: {
            /** @description A file of UTF-8 text. */
            text: string;
        } | {
            /** @description A file's bytes as standard base64 with padding. */
            base64: string;
        } | {
            /** @description A file that was uploaded as a blob. */
            digest: components["schemas"]["Digest"];
        } | {
            /** @description A packed directory that was uploaded as a blob; mapped as a whole. */
            tree: components["schemas"]["Digest"];
        };
        /** @description A public key of the coordinator. */
        Key: {
            /**
             * @description `ed25519:` and the public key in hex: the key is its own id.
             * @example ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a
             */
            keyid: string;
            /** @description From when on it signed. */
            valid_from: components["schemas"]["Timestamp"];
            valid_until: components["schemas"]["Timestamp"] | null;
        };
        /** @description One page of a list */
        KeyPage: {
            items: components["schemas"]["Key"][];
            /** @description `cursor` of the next page; null on the last one */
            next: string | null;
        };
        /** @description Bounds on what the guest may use; a missing one has its default. */
        LimitsRequest: {
            /**
             * Format: int64
             * @description Contents of all files that the guest writes, in bytes; 64 MiB by default, up to 1 GiB.
             * @default null
             */
            file_bytes?: number | null;
            /**
             * Format: int64
             * @description Files, directories and links that the guest makes; 4096 by default, up to 65536.
             * @default null
             */
            file_count?: number | null;
            /**
             * Format: int64
             * @description Fuel; none by default: then the guest runs uninstrumented until its timeout.
             * @default null
             */
            fuel?: number | null;
            /**
             * Format: int64
             * @description All linear memories and tables together, in bytes; 256 MiB by default, up to 4 GiB.
             * @default null
             */
            memory_bytes?: number | null;
            /**
             * Format: int64
             * @description Standard output and standard error together, in bytes; 16 MiB by default, up to 1 GiB.
             * @default null
             */
            output_bytes?: number | null;
        };
        /** @description Bounds on a guest. */
        LimitsView: {
            /**
             * Format: int64
             * @description Contents of written files, in bytes.
             */
            file_bytes: number;
            /**
             * Format: int32
             * @description Files, directories and links made.
             */
            file_count: number;
            /**
             * Format: int64
             * @description Fuel, or none.
             */
            fuel: number | null;
            /**
             * Format: int64
             * @description Memories and tables, in bytes.
             */
            memory_bytes: number;
            /**
             * Format: int64
             * @description Standard output and standard error together, in bytes.
             */
            output_bytes: number;
        };
        /** @description Data of the event `output`: what an attempt wrote, as it writes it. Not verified; a rerun starts anew. */
        LiveOutput: {
            /**
             * Format: int32
             * @description Number of the attempt.
             */
            attempt: number;
            /** @description The bytes otherwise. */
            base64?: string | null;
            /**
             * Format: int64
             * @description Position of the first byte in its stream.
             */
            offset: number;
            /** @description Which stream. */
            stream: components["schemas"]["StreamName"];
            /** @description The bytes, if they are UTF-8. */
            text?: string | null;
            /** @description Always false: no votes were compared. */
            verified: boolean;
        };
        /** @description A module. */
        Module: {
            /**
             * @description What static analysis found: kind, WASI level, imports, exports, memories, whether its results can be verified
             *     and why not.
             */
            analysis: Record<string, never> | null;
            /** @description When it was first uploaded. */
            created_at: components["schemas"]["Timestamp"];
            /** @description Its id: the digest of its bytes. */
            digest: components["schemas"]["Digest"];
            /** @description A name for people, as uploaded. */
            name: string | null;
            nondeterministic: components["schemas"]["Nondeterminism"] | null;
            /** @description Why it is quarantined; null if it is not. */
            quarantined: string | null;
            refusal: components["schemas"]["Refusal"] | null;
            /**
             * Format: int64
             * @description Its size in bytes.
             */
            size: number;
            /** @description Where it stands. */
            state: components["schemas"]["ModuleStateName"];
            verify: components["schemas"]["VerifyRequest"] | null;
        };
        /** @description One page of a list */
        ModulePage: {
            items: components["schemas"]["Module"][];
            /** @description `cursor` of the next page; null on the last one */
            next: string | null;
        };
        /**
         * @description Where a module stands.
         * @enum {string}
         */
        ModuleStateName: "analysed" | "compiling" | "ready" | "refused";
        /** @description A token that was just made: the only time that its secret is shown. */
        NewToken: {
            /** @description The bearer token. */
            secret: string;
            /** @description The rest. */
            token: components["schemas"]["Token"];
        };
        /** @description How a module was found to be nondeterministic. */
        Nondeterminism: {
            /** @description When. */
            at: components["schemas"]["Timestamp"];
            /** @description The run that showed it. */
            run: components["schemas"]["RunId"];
        };
        /** @description What the guest did. Deterministic, part of the result, votes. */
        Outcome: {
            /**
             * Format: int32
             * @description The exit code as the guest gave it.
             */
            code: number;
            /** @enum {string} */
            kind: "exited";
        } | {
            /** @enum {string} */
            kind: "returned";
            /** @description One text per result: decimal integers, shortest round-trip floats, `nan:0x…` for NaN bits. */
            values: string[];
        } | {
            /** @enum {string} */
            kind: "responded";
            /**
             * Format: int32
             * @description HTTP status.
             */
            status: number;
        } | {
            /** @enum {string} */
            kind: "trapped";
            /** @description Which trap; the only part of a trap that may vote. */
            trap: components["schemas"]["Trap"];
        } | {
            /** @enum {string} */
            kind: "out_of_fuel";
        } | {
            /** @enum {string} */
            kind: "output_limit";
        };
        /** @description Bytes that a run gave out: inline as `text` or `base64` when they are small, always by digest. */
        Output: {
            /** @description The bytes, if they are few and not UTF-8. */
            base64?: string | null;
            /** @description Digest of the bytes. */
            digest: components["schemas"]["Digest"];
            /**
             * Format: int64
             * @description Their number.
             */
            size: number;
            /** @description The bytes, if they are few and UTF-8. */
            text?: string | null;
        };
        /** @description A file that the guest left under `/out`. */
        OutputFile: {
            /** @description Digest of its bytes. */
            digest: components["schemas"]["Digest"];
            /** @description Where it was, `/out/…`. */
            path: string;
            /**
             * Format: int64
             * @description Their number.
             */
            size: number;
        };
        /** @description A vote that lost, or one of those of which none won. */
        Outvoted: {
            /**
             * Format: int32
             * @description Number of the attempt.
             */
            attempt: number;
            /** @description Whether it was held against the worker. */
            blamed: boolean;
            /** @description What it named. */
            result: components["schemas"]["Digest"];
            /** @description Why, or why not, in words. */
            why: string;
            /** @description Whose vote it was. */
            worker: components["schemas"]["WorkerId"];
        };
        /**
         * @description How workers are chosen.
         * @enum {string}
         */
        PlacementMode: "any" | "labels" | "primary";
        /** @description Which workers may run it. */
        PlacementRequest: {
            /** @description Labels that a worker must carry, with their values; only with `labels`. */
            labels?: {
                [key: string]: string;
            } | null;
            /** @description How workers are chosen. */
            mode: components["schemas"]["PlacementMode"];
        };
        /** @description A policy with all defaults filled in. */
        PolicyView: {
            /**
             * Format: int32
             * @description Timed-out attempts after which the run is final.
             */
            attempts_max: number;
            /** @description Whether it could be answered by an equal one. */
            cache?: components["schemas"]["CacheUse"];
            callback?: components["schemas"]["CallbackRequest"] | null;
            /**
             * Format: int64
             * @description Wall time of the whole run, in milliseconds.
             */
            deadline_ms: number | null;
            /** @description Whether it was written before it was acknowledged. */
            durable: boolean;
            /** @description Which workers. */
            placement: components["schemas"]["PlacementRequest"];
            /**
             * Format: int32
             * @description Higher goes first within a workspace.
             */
            priority: number;
            /** @description What a fault leads to. */
            retry: components["schemas"]["Retry"];
            /**
             * Format: int64
             * @description Wall time of one attempt, in milliseconds.
             */
            timeout_ms: number;
            /** @description How the result is verified. */
            verify: components["schemas"]["VerifyRequest"];
        };
        /** @description How busy the pool is. */
        PoolFigures: {
            /**
             * Format: int64
             * @description Attempts that workers hold.
             */
            attempts_live: number;
            /**
             * Format: int64
             * @description Runs without an attempt.
             */
            queued: number;
            /**
             * Format: int64
             * @description Runs with one.
             */
            running: number;
            /**
             * Format: int64
             * @description Slots that they declared.
             */
            slots: number;
            /**
             * Format: int64
             * @description Workers that get work.
             */
            workers_active: number;
            /**
             * Format: int64
             * @description Workers that missed two heartbeats and get nothing new until they are heard of again.
             */
            workers_suspect: number;
        };
        /** @description The pool at a glance. What is about runs counts the caller's workspace only; workers, slots and storage are shared by all. */
        PoolStats: {
            /** @description When these figures were taken. */
            at: components["schemas"]["Timestamp"];
            /** @description What happened in the last hour. */
            last_hour: components["schemas"]["HourCounts"];
            /** @description Runs that have not ended. */
            queue: components["schemas"]["QueueCounts"];
            /**
             * Format: double
             * @description Runs that ended each second, over the last ten seconds.
             */
            runs_per_second: number;
            /** @description Slots of the workers that get work. */
            slots: components["schemas"]["SlotCounts"];
            /** @description What is stored, and what retention will free. */
            storage: components["schemas"]["StorageStats"];
            /** @description Every worker that is enrolled, by standing. */
            workers: components["schemas"]["WorkerCounts"];
        };
        /** @description A secret that was replaced. */
        PreviousSecret: {
            /** @description `whsec_` and base64 of 32 bytes. */
            secret: string;
            /** @description Until when it signs beside the new one. */
            until: components["schemas"]["Timestamp"];
        };
        /** @description Problem details (RFC 9457), the one shape of every error. */
        Problem: {
            /** @description What programs tell errors apart by. */
            code: components["schemas"]["ProblemCode"];
            /** @description What happened and what to do about it. */
            detail: string;
            digest?: components["schemas"]["Digest"] | null;
            /** @description JSON pointer (RFC 6901) of the field of the request body that is at fault; for a query parameter its name. */
            pointer?: string | null;
            /** @description With `module_refused`: the stable code of the refusal. */
            refusal?: string | null;
            /** @description Names the request in the coordinator's log; also in the header `X-Request-Id`. */
            request_id: string;
            run?: components["schemas"]["Run"] | null;
            /**
             * Format: int32
             * @description The HTTP status.
             */
            status: number;
            /** @description The code in words. */
            title: string;
            /** @description `urn:lockstep:problem:` and the code. */
            type: string;
        };
        /**
         * @description Every code that an error of this API can have. The list only grows.
         * @enum {string}
         */
        ProblemCode: "invalid_body" | "tls_required" | "invalid_parameter" | "unauthorized" | "forbidden" | "not_found" | "method_not_allowed" | "module_in_use" | "module_quarantined" | "too_few_workers" | "worker_connected" | "worker_not_connected" | "no_receipt" | "too_many_keys" | "gone" | "too_large" | "unsupported_media_type" | "range_not_satisfiable" | "invalid_field" | "bad_entry" | "missing_module" | "missing_blob" | "digest_mismatch" | "callback_refused" | "module_refused" | "policy_not_available" | "not_available" | "idempotency_mismatch" | "run_failed" | "queue_full" | "internal" | "unavailable" | "run_unfinished" | "run_timed_out" | "disk_full";
        /**
         * @description A named, versioned set of semantics.
         * @enum {string}
         */
        Profile: "det-1" | "det-1-portable";
        /** @description Why something is taken out of service. */
        QuarantineRequest: {
            /** @description Shown wherever the quarantine is; 1 to 500 characters. */
            why: string;
        };
        /** @description Runs that have not ended. */
        QueueCounts: {
            /**
             * Format: int64
             * @description Without an attempt.
             */
            queued: number;
            /**
             * Format: int64
             * @description With one.
             */
            running: number;
        };
        /** @description A receipt: a DSSE envelope with one signature. Its payload is described in `docs/receipts.md`. */
        Receipt: {
            /** @description Base64 of the in-toto statement. */
            payload: string;
            /** @description `application/vnd.in-toto+json`. */
            payloadType: string;
            /** @description One. */
            signatures: components["schemas"]["ReceiptSignature"][];
        };
        /** @description The coordinator's signature over a receipt. */
        ReceiptSignature: {
            /** @description The public key, see `GET /v1/keys`. */
            keyid: string;
            /** @description Base64 of the Ed25519 signature over the payload and its type, as DSSE encodes them. */
            sig: string;
        };
        /** @description Why a module was refused. */
        Refusal: {
            /** @description Stable code. */
            code: string;
            /** @description The same for people. */
            text: string;
        };
        /** @description A worker that was taken out, and what becomes of the finals that rested on it. */
        Repair: {
            /**
             * Format: int64
             * @description Right: trusted voters found the same.
             */
            confirmed: number;
            /**
             * Format: int64
             * @description Wrong: there is a revision more.
             */
            corrected: number;
            /**
             * Format: int64
             * @description Of these, such as would not have been without its vote: they are verified anew.
             */
            decisive: number;
            /**
             * Format: int64
             * @description Runs that had been answered with one of these wrong results, from the cache or because they shared attempts, and were
             *     corrected along.
             */
            dependents: number;
            /**
             * Format: int64
             * @description Finals in which it had voted for what won, when it was taken out.
             */
            finals: number;
            /**
             * Format: int64
             * @description How many were looked at so far: those, what ended just then, and once more what changed since (a confirmation).
             */
            found: number;
            /**
             * Format: int64
             * @description Given up, because module, input or run are not kept any more, or because trusted executions differ.
             */
            not_verifiable: number;
            /**
             * Format: int64
             * @description Of these, those that wait or are being verified.
             */
            pending: number;
            /** @description Since when. */
            since: components["schemas"]["Timestamp"];
            /** @description How far it is. */
            state: components["schemas"]["RepairState"];
            /**
             * Format: int64
             * @description Nobody could tell in five tries. They are tried on once a day.
             */
            undecided: number;
            /** @description Why. */
            why: string;
            /** @description Whose votes count no more. */
            worker: components["schemas"]["WorkerId"];
        };
        /** @description One page of a list */
        RepairPage: {
            items: components["schemas"]["Repair"][];
            /** @description `cursor` of the next page; null on the last one */
            next: string | null;
        };
        /**
         * @description How far a repair is.
         * @enum {string}
         */
        RepairState: "looking" | "verifying" | "done" | "lifted";
        /** @description Data of the event `resync` of the pool's stream: events were lost, read everything again that is shown. */
        Resync: {
            /** @description Why. */
            reason: components["schemas"]["ResyncReason"];
        };
        /**
         * @description Why events were lost.
         * @enum {string}
         */
        ResyncReason: "reconnected" | "lagged";
        /** @description What retention keeps, and what it will free. */
        RetentionStats: components["schemas"]["RetentionView"] & {
            oldest_finished_at: components["schemas"]["Timestamp"] | null;
            /**
             * Format: int64
             * @description Bytes of blobs that nothing refers to: they go when their pins end. What the runs above still hold comes on top,
             *     and is known only once they are gone.
             */
            would_free_bytes: number;
            /**
             * Format: int64
             * @description Final runs that the next round (twice a minute) deletes at most: older than the age, or beyond the number. Of them stay
             *     those whose result others have, as long as these.
             */
            would_free_runs: number;
            /**
             * Format: int64
             * @description The same within the next day, at most, if nothing new ends.
             */
            would_free_runs_in_a_day: number;
        };
        /** @description What an operator has set about keeping. */
        RetentionView: {
            /**
             * Format: int64
             * @description Final runs older than this go, in milliseconds.
             */
            age_ms: number;
            /**
             * Format: int64
             * @description Evidence younger than this stays too, up to ten times `evidence_max`, in milliseconds.
             */
            evidence_age_ms: number;
            /**
             * Format: int64
             * @description Of the evidence about each worker the newest so many observations stay, however old.
             */
            evidence_max: number;
            /**
             * Format: int64
             * @description Of the final runs the newest so many stay.
             */
            runs_max: number;
            /**
             * Format: int64
             * @description How long an upload stays that no run refers to, in milliseconds.
             */
            upload_keep_ms: number;
        };
        /**
         * @description What happens to a run whose attempt met a fault.
         * @enum {string}
         */
        Retry: "reassign" | "never";
        /** @description A revision of a run's final. */
        Revision: {
            decided_at: components["schemas"]["Timestamp"] | null;
            outcome: components["schemas"]["Outcome"] | null;
            reason: components["schemas"]["FailReason"] | null;
            result: components["schemas"]["Digest"] | null;
            /**
             * Format: int32
             * @description 1, and one more for each correction.
             */
            revision: number;
            /** @description How it says that the run ended. */
            state: components["schemas"]["RunState"];
            /** @description What comparing the votes said. */
            verdict: components["schemas"]["RunVerdict"];
            verification: components["schemas"]["Verification"] | null;
        };
        /** @description One page of a list */
        RevisionPage: {
            items: components["schemas"]["Revision"][];
            /** @description `cursor` of the next page; null on the last one */
            next: string | null;
        };
        /** @description A run as it is read back. */
        Run: {
            /** @description Every attempt so far. */
            attempts: components["schemas"]["Attempt"][];
            /**
             * @description Whether a verified result of an earlier run answered: then it has no attempts, and its receipt is that of
             *     `cached_from`.
             */
            cached: boolean;
            cached_from: components["schemas"]["RunId"] | null;
            corrected_at: components["schemas"]["Timestamp"] | null;
            /** @description When it was submitted. */
            created_at: components["schemas"]["Timestamp"];
            /** @description Every decision so far, in words. */
            explain: components["schemas"]["Explanation"][];
            /** @description Files that the guest left under `/out`. */
            files: components["schemas"]["OutputFile"][];
            finished_at: components["schemas"]["Timestamp"] | null;
            /**
             * Format: int64
             * @description Fuel used, where the run granted fuel and the guest ended by itself.
             */
            fuel_used: number | null;
            /** @description A UUIDv7. */
            id: components["schemas"]["RunId"];
            /** @description What was executed. */
            module: components["schemas"]["Digest"];
            outcome: components["schemas"]["Outcome"] | null;
            /** @description How it is carried out, with all defaults filled in. */
            policy: components["schemas"]["PolicyView"];
            reason: components["schemas"]["FailReason"] | null;
            rerun_of: components["schemas"]["RunId"] | null;
            result: components["schemas"]["Digest"] | null;
            /**
             * Format: int32
             * @description 0 until it is final, then 1, and one more for each correction.
             */
            revision: number;
            /** @description Digest of the run spec with all defaults filled in. */
            run_key: components["schemas"]["Digest"];
            shared_with: components["schemas"]["RunId"] | null;
            /** @description What was executed, with all defaults filled in. */
            spec: components["schemas"]["SpecView"];
            /** @description Where it stands in its life. */
            state: components["schemas"]["RunState"];
            stderr: components["schemas"]["Output"] | null;
            stdout: components["schemas"]["Output"] | null;
            /** @description What comparing the votes says. */
            verdict: components["schemas"]["RunVerdict"];
            verification: components["schemas"]["Verification"] | null;
        };
        /** @description Data of the event `end`: nothing follows. */
        RunEnd: {
            /** @description Which run. */
            id: components["schemas"]["RunId"];
            /** @description Its final state. */
            state: components["schemas"]["RunState"];
        };
        /**
         * @description A UUIDv7
         * @example 01920000-0000-7000-8000-000000000001
         */
        RunId: string;
        /** @description A run as it is submitted. Everything but `module` has a default. */
        RunRequest: {
            /**
             * @description For commands the arguments after the program's name, for plain functions their numbers as text.
             * @default []
             */
            args?: string[];
            /**
             * Format: int64
             * @description Timed-out attempts after which the run is final; 3 by default.
             * @default null
             */
            attempts_max?: number | null;
            /** @default null */
            cache?: components["schemas"]["CacheUse"] | null;
            /** @default null */
            callback?: components["schemas"]["CallbackRequest"] | null;
            /** @default null */
            clock?: components["schemas"]["Clock"] | null;
            /**
             * Format: int64
             * @description Wall time of the whole run from its submission, in milliseconds; none by default.
             * @default null
             */
            deadline_ms?: number | null;
            /**
             * @description Whether the run is written to the store before it is acknowledged; true by default. With false the run lives
             *     in memory only: that needs `wait_ms` and takes no Idempotency-Key. An answer from the cache comes before its run is
             *     written, unless true is said in so many words (or the request has an Idempotency-Key).
             * @default null
             */
            durable?: boolean | null;
            /**
             * @description Exported function to call; `_start`, the entry of commands, by default.
             * @default null
             */
            entry?: string | null;
            /**
             * @description The whole environment; nothing is inherited from the worker.
             * @default {}
             */
            env?: {
                [key: string]: string;
            };
            /**
             * @description Read-only inputs by their absolute path in the guest.
             * @default {}
             */
            files?: {
                [key: string]: components["schemas"]["InputFile"];
            };
            /**
             * @description Name of a function instead of a module. Not available yet: answered with `not_available`.
             * @default null
             */
            function?: string | null;
            /**
             * @description Bounds on what the guest may use.
             * @default {}
             */
            limits?: components["schemas"]["LimitsRequest"];
            /**
             * @description Whether output is forwarded while it is written (event `output` of the run's event stream); false by default.
             * @default null
             */
            live?: boolean | null;
            /** @default null */
            module?: components["schemas"]["Digest"] | null;
            /** @default null */
            placement?: components["schemas"]["PlacementRequest"] | null;
            /**
             * Format: int64
             * @description Higher goes first within a workspace; -128 to 127, 0 by default.
             * @default null
             */
            priority?: number | null;
            /** @default null */
            profile?: components["schemas"]["Profile"] | null;
            /** @default null */
            retry?: components["schemas"]["Retry"] | null;
            /**
             * Format: int64
             * @description Seed of every random source, below 2^53; 0 by default.
             * @default null
             */
            seed?: number | null;
            /** @default null */
            stdin?: components["schemas"]["InputBytes"] | null;
            /**
             * Format: int64
             * @description Wall time of one attempt from its beginning, in milliseconds; 30000 by default.
             * @default null
             */
            timeout_ms?: number | null;
            /** @default null */
            verify?: components["schemas"]["VerifyRequest"] | null;
            /**
             * Format: int64
             * @description How long the answer may wait for the run's end, in milliseconds, up to 300000; 0 (no waiting) by default.
             * @default null
             */
            wait_ms?: number | null;
        };
        /**
         * @description Life cycle of a run as callers see it.
         * @enum {string}
         */
        RunState: "queued" | "running" | "succeeded" | "failed" | "canceled";
        /** @description A run in a list: without its attempts, explanations, outputs and spec. */
        RunSummary: {
            /**
             * Format: int32
             * @description Attempts so far.
             */
            attempt_count: number;
            /** @description Whether a verified result of an earlier run answered. */
            cached: boolean;
            cached_from: components["schemas"]["RunId"] | null;
            /** @description When it was submitted. */
            created_at: components["schemas"]["Timestamp"];
            /** @description Which exported function. */
            entry: string;
            finished_at: components["schemas"]["Timestamp"] | null;
            /** @description A UUIDv7. */
            id: components["schemas"]["RunId"];
            /** @description What was executed. */
            module: components["schemas"]["Digest"];
            outcome: components["schemas"]["Outcome"] | null;
            reason: components["schemas"]["FailReason"] | null;
            rerun_of: components["schemas"]["RunId"] | null;
            result: components["schemas"]["Digest"] | null;
            /**
             * Format: int32
             * @description 0 until it is final.
             */
            revision: number;
            /** @description Digest of the run spec. */
            run_key: components["schemas"]["Digest"];
            shared_with: components["schemas"]["RunId"] | null;
            /** @description Where it stands in its life. */
            state: components["schemas"]["RunState"];
            /** @description What comparing the votes says. */
            verdict: components["schemas"]["RunVerdict"];
        };
        /** @description One page of a list */
        RunSummaryPage: {
            items: components["schemas"]["RunSummary"][];
            /** @description `cursor` of the next page; null on the last one */
            next: string | null;
        };
        /** @description What comparing the votes says, with its figures. */
        RunVerdict: {
            /** @description Workers whose vote lost. */
            dissenters: components["schemas"]["WorkerId"][];
            /** @description What comparing says. Only `agreed` means compared. */
            kind: components["schemas"]["VerdictKind"];
            /**
             * Format: int32
             * @description Votes for the result that won, or all votes while none has.
             */
            votes: number;
        };
        /**
         * @description What a token allows. `admin` includes `submit` and `read`, `submit` includes `read`.
         * @enum {string}
         */
        Scope: "admin" | "submit" | "read" | "worker";
        /** @description Figures of each minute. */
        Series: {
            /**
             * Format: int64
             * @description How long a bucket is, in milliseconds.
             */
            bucket_ms: number;
            /** @description One a minute, the oldest first; the last one is still being counted. */
            buckets: components["schemas"]["Bucket"][];
            /** @description Since when they are complete: earlier minutes show zeros because nobody counted. */
            since: components["schemas"]["Timestamp"];
        };
        /** @description Facts of the coordinator's process. */
        ServerFacts: {
            /** @description The class of this machine and build for `det-1`. */
            class: components["schemas"]["Digest"];
            /** @description The engine that executes guests, with its version. */
            engine: string;
            /** @description The address that it listens on. */
            listen: string;
            /** @description The class of this machine and build for `det-1-portable`. */
            portable_class: components["schemas"]["Digest"];
            /** @description The semantics that a run may ask for. */
            profiles: components["schemas"]["Profile"][];
            /** @description When it started. */
            started_at: components["schemas"]["Timestamp"];
            /** @description Whether that address speaks TLS. */
            tls: boolean;
            /**
             * Format: int64
             * @description How long ago that is, in milliseconds.
             */
            uptime_ms: number;
        };
        /** @description One side of a comparison. */
        Side: {
            /**
             * Format: int32
             * @description Number of the attempt.
             */
            attempt: number;
            digest: components["schemas"]["Digest"] | null;
            /** @description What the guest did, as this attempt says. */
            outcome: components["schemas"]["Outcome"];
            /** @description The result that it voted for. */
            result: components["schemas"]["Digest"];
            /**
             * Format: int64
             * @description Their number.
             */
            size: number;
            window: components["schemas"]["Window"] | null;
            /** @description Who executed it. */
            worker: components["schemas"]["WorkerId"];
        };
        /** @description Slots and how many are in use. */
        SlotCounts: {
            /**
             * Format: int64
             * @description Those that have an attempt.
             */
            busy: number;
            /**
             * Format: int64
             * @description Slots of the active workers.
             */
            total: number;
        };
        /** @description A run spec with all defaults filled in. */
        SpecView: {
            /** @description Arguments. */
            args: string[];
            /** @description Where the virtual clock starts. */
            clock: components["schemas"]["Clock"];
            /** @description Exported function that is called. */
            entry: string;
            /** @description Environment. */
            env: {
                [key: string]: string;
            };
            /** @description Read-only inputs by their path, each by digest. */
            files: {
                [key: string]: components["schemas"]["InputFile"];
            };
            /** @description Bounds on the guest. */
            limits: components["schemas"]["LimitsView"];
            /** @description The semantics. */
            profile: components["schemas"]["Profile"];
            /**
             * Format: int64
             * @description Seed of every random source.
             */
            seed: number;
            /** @description Standard input, by digest. */
            stdin: components["schemas"]["Digest"];
        };
        /** @description What is stored. */
        StorageStats: {
            /**
             * Format: int64
             * @description Blobs.
             */
            blobs: number;
            /**
             * Format: int64
             * @description Their bytes.
             */
            bytes: number;
            /**
             * Format: int64
             * @description Modules.
             */
            modules: number;
            /** @description What is kept and what will go. */
            retention: components["schemas"]["RetentionStats"];
            /**
             * Format: int64
             * @description Runs, of every workspace.
             */
            runs: number;
            /**
             * Format: int64
             * @description Runs that are not final.
             */
            runs_open: number;
        };
        /** @description How much is stored. */
        StoredFigures: {
            /**
             * Format: int64
             * @description Their bytes.
             */
            blob_bytes: number;
            /**
             * Format: int64
             * @description Blobs.
             */
            blobs: number;
            /**
             * Format: int64
             * @description Modules.
             */
            modules: number;
            /**
             * Format: int64
             * @description Runs.
             */
            runs: number;
            /**
             * Format: int64
             * @description Runs that are not final.
             */
            runs_open: number;
        };
        /**
         * @description One of a command's two output streams.
         * @enum {string}
         */
        StreamName: "stdout" | "stderr";
        /** @description What happened to the runs of a workspace in some time. */
        Tally: {
            /**
             * Format: int64
             * @description Runs that were canceled.
             */
            canceled: number;
            /**
             * Format: int64
             * @description Votes that lost against an agreed result.
             */
            dissents: number;
            /**
             * Format: int64
             * @description Runs that failed.
             */
            failed: number;
            /**
             * Format: int64
             * @description Attempts that met a fault (a drained worker's are none).
             */
            faults: number;
            /**
             * Format: int64
             * @description Runs that ended, however: the sum of the next three.
             */
            finished: number;
            /**
             * Format: int64
             * @description Attempts that were handed out because an earlier one had met a fault.
             */
            reruns: number;
            /**
             * Format: int64
             * @description Runs that were accepted.
             */
            submitted: number;
            /**
             * Format: int64
             * @description Runs that succeeded.
             */
            succeeded: number;
            /** @description The verdicts of the runs that ended. */
            verdicts: components["schemas"]["VerdictCounts"];
        };
        /**
         * @description RFC 3339 in UTC, with microseconds
         * @example 2026-01-01T00:00:00.000000Z
         */
        Timestamp: string;
        /** @description A token, without its secret. */
        Token: {
            /** @description Whether they are trusted executors. */
            arbiter: boolean;
            /** @description When it was made. */
            created_at: components["schemas"]["Timestamp"];
            /** @description The trust domain of workers that enrol with it. */
            domain: string | null;
            expires_at: components["schemas"]["Timestamp"] | null;
            /**
             * Format: int32
             * @description For deleting it.
             */
            id: number;
            last_used_at: components["schemas"]["Timestamp"] | null;
            /** @description What people call it. */
            name: string;
            /** @description Whether those are the operator's own machines. */
            owned: boolean;
            /** @description What it allows. */
            scopes: components["schemas"]["Scope"][];
            /** @description Where it is valid. */
            workspace: string;
        };
        /** @description One page of a list */
        TokenPage: {
            items: components["schemas"]["Token"][];
            /** @description `cursor` of the next page; null on the last one */
            next: string | null;
        };
        /** @description A token as it is asked for. */
        TokenRequest: {
            /**
             * @description With the scope `worker`: workers that enrol with it are trusted executors. They settle disputes and audits, and get
             *     no ordinary work while others are there.
             */
            arbiter?: boolean;
            /**
             * @description With the scope `worker`: the trust domain of workers that enrol with it, such as `ada` or `rack-2`; 1 to 64 of the
             *     characters a-z, 0-9, `.`, `_` and `-`. With `owned` alone it is `local`, that of the operator's own machines, each of
             *     which counts for itself; workers of another domain are foreign, unless `owned` says otherwise, and count once where
             *     domains meet. Whose machines they are has to be said: by this, `owned`, `arbiter` or `foreign`.
             */
            domain?: string | null;
            expires_at?: components["schemas"]["Timestamp"] | null;
            /**
             * @description With the scope `worker`: workers that enrol with it are somebody else's machines. Not with `owned`, `arbiter` or the
             *     domain `local`.
             */
            foreign?: boolean;
            /** @description What people call it; 1 to 100 characters. */
            name: string;
            /**
             * @description With the scope `worker`: workers that enrol with it are the operator's own machines, of which fewer are assumed to be
             *     faulty.
             */
            owned?: boolean;
            /** @description What it allows; at least one. */
            scopes: components["schemas"]["Scope"][];
        };
        /**
         * @description Why a guest trapped, as far as every voter must agree on it.
         * @enum {string}
         */
        Trap: "unreachable" | "memory_out_of_bounds" | "table_out_of_bounds" | "indirect_call_to_null" | "bad_signature" | "integer_overflow" | "integer_division_by_zero" | "bad_conversion_to_integer" | "heap_misaligned" | "stack_overflow" | "null_reference" | "uncaught_exception" | "host_abi" | "instantiation";
        /** @description Runs that ended, by verdict. */
        VerdictCounts: {
            /**
             * Format: int64
             * @description Compared, and enough votes were equal.
             */
            agreed: number;
            /**
             * Format: int64
             * @description The votes differ and none won.
             */
            disputed: number;
            /**
             * Format: int64
             * @description Trusted re-executions differ.
             */
            nondeterministic: number;
            /**
             * Format: int64
             * @description Ended before the votes decided: canceled, expired, or out of attempts.
             */
            pending: number;
            /**
             * Format: int64
             * @description Policy `once`: nothing was compared.
             */
            unchecked: number;
            /**
             * Format: int64
             * @description One trusted vote stood alone.
             */
            vouched: number;
        };
        /**
         * @description What comparing the votes says.
         * @enum {string}
         */
        VerdictKind: "pending" | "agreed" | "vouched" | "unchecked" | "disputed" | "nondeterministic";
        /** @description What came of verifying a final anew. */
        Verification: {
            /** @description What: this revision stays, it is itself a correction, or nothing could be said. */
            conclusion: components["schemas"]["ConclusionName"];
            /** @description When that was known. */
            reverified_at: components["schemas"]["Timestamp"];
        };
        /**
         * @description A rule of verification.
         * @enum {string}
         */
        VerifyPolicy: "once" | "quorum" | "standard" | "high";
        /** @description How a result is verified. */
        VerifyRequest: {
            /**
             * Format: int64
             * @description Voters placed at once, 2 to 15; only with `quorum`, 2 by default.
             */
            n?: number | null;
            /** @description Which rule. */
            policy: components["schemas"]["VerifyPolicy"];
        };
        /** @description A few bytes of a stream: 1024 at most, 256 of them before the first difference. */
        Window: {
            /** @description The bytes. */
            base64: string;
            /**
             * Format: int64
             * @description Position of the first one.
             */
            offset: number;
        };
        /**
         * @description Which results are not to answer anything any more: those that meet all that is named here. At least one thing has to be
         *     named, or `all`.
         */
        WithdrawRequest: {
            /** @default null */
            after?: components["schemas"]["Timestamp"] | null;
            /**
             * @description Every one.
             * @default false
             */
            all?: boolean;
            /** @default null */
            before?: components["schemas"]["Timestamp"] | null;
            /** @default null */
            class?: components["schemas"]["Digest"] | null;
            /** @default null */
            module?: components["schemas"]["Digest"] | null;
            /** @default null */
            run?: components["schemas"]["RunId"] | null;
            /** @default null */
            worker?: components["schemas"]["WorkerId"] | null;
        };
        /** @description What was withdrawn. */
        Withdrawn: {
            /**
             * Format: int64
             * @description Results that were in the cache. The withdrawal also holds for those that were not, and after a restart.
             */
            withdrawn: number;
        };
        /** @description A worker. */
        Worker: {
            /** @description Whether it is a trusted executor, which settles disputes and audits and gets no ordinary work while others are there. */
            arbiter: boolean;
            class: components["schemas"]["Digest"] | null;
            class_parts: components["schemas"]["ClassInputs"] | null;
            /**
             * Format: double
             * @description Its results that others confirmed since it last was wrong, fewer as they age; at most 1000.
             */
            confirmations: number;
            connected_at: components["schemas"]["Timestamp"] | null;
            /** @description When it enrolled. */
            created_at: components["schemas"]["Timestamp"];
            /**
             * Format: double
             * @description The probability that its next result is right, as far as its record in this class tells. Crashes, losses and timeouts
             *     do not count.
             */
            credibility: number;
            /**
             * Format: int32
             * @description Attempts that it would take now.
             */
            credits: number;
            /**
             * Format: int64
             * @description Votes that lost.
             */
            dissents: number;
            /** @description Its trust domain. */
            domain: string;
            /** @description Whether it is part of the coordinator's process. */
            embedded: boolean;
            /**
             * Format: int64
             * @description Crashes, timeouts, losses, refusals and corruptions.
             */
            faults: number;
            /** @description When it was last heard of. */
            heard_at: components["schemas"]["Timestamp"];
            /** @description Attempts that it holds. */
            holds: components["schemas"]["AttemptId"][];
            /** @description `w` and its number, kept for life. */
            id: components["schemas"]["WorkerId"];
            /** @description Its public key, its identity: `ed25519:` and the key in hex, as in receipts. */
            key: string;
            /** @description What placement may ask for. */
            labels: {
                [key: string]: string;
            };
            left_at: components["schemas"]["Timestamp"] | null;
            /**
             * Format: int64
             * @description Memory for its attempts, in bytes.
             */
            memory_bytes: number;
            /**
             * Format: int64
             * @description Memory leased to its attempts, in bytes.
             */
            memory_leased_bytes: number;
            /** @description What people call it. */
            name: string;
            /** @description Whether it is the operator's own machine. */
            owned: boolean;
            /**
             * Format: int64
             * @description Other active workers of its class. With none, what it computes cannot be compared.
             */
            peers: number;
            portable_class: components["schemas"]["Digest"] | null;
            /**
             * Format: int64
             * @description Other active workers of that class.
             */
            portable_peers?: number;
            /**
             * Format: int32
             * @description Attempts that it executes at once.
             */
            slots: number;
            /** @description Whether it gets work. */
            standing: components["schemas"]["WorkerStandingName"];
            suspect_since: components["schemas"]["Timestamp"] | null;
            /** @description Its build, as it said last. */
            version: string | null;
            /**
             * Format: int64
             * @description Votes since it joined.
             */
            votes: number;
            /** @description Why it does not. */
            why: string | null;
        };
        /** @description Workers by standing. */
        WorkerCounts: {
            /**
             * Format: int64
             * @description They get work.
             */
            active: number;
            /**
             * Format: int64
             * @description They finish what they hold.
             */
            draining: number;
            /**
             * Format: int64
             * @description They are enrolled and not connected.
             */
            gone: number;
            /**
             * Format: int64
             * @description They missed their heartbeats.
             */
            lost: number;
            /**
             * Format: int64
             * @description They get nothing and count for nothing.
             */
            quarantined: number;
            /**
             * Format: int64
             * @description They missed two heartbeats and get no new work.
             */
            suspect: number;
        };
        /** @description A worker with what it does now and what was seen of it. */
        WorkerDetail: components["schemas"]["Worker"] & {
            /** @description The attempts that it holds, the oldest first. */
            current: components["schemas"]["CurrentAttempt"][];
            /** @description What was seen of it. */
            evidence: components["schemas"]["EvidenceView"];
            /**
             * Format: int64
             * @description How long ago it was last heard of, in milliseconds.
             */
            heard_ago_ms: number;
        };
        /**
         * @description `w` and the worker's number
         * @example w1
         */
        WorkerId: string;
        /** @description One page of a list */
        WorkerPage: {
            items: components["schemas"]["Worker"][];
            /** @description `cursor` of the next page; null on the last one */
            next: string | null;
        };
        /**
         * @description Whether a worker gets work.
         * @enum {string}
         */
        WorkerStandingName: "active" | "suspect" | "draining" | "lost" | "quarantined" | "gone";
        /** @description A workspace, with what holds for all of its runs. */
        Workspace: {
            /** @description Its name; there is only `default` so far. */
            name: string;
            verify: components["schemas"]["VerifyRequest"] | null;
        };
        /** @description What holds for all runs of a workspace; what is left out is settled no more. */
        WorkspaceRequest: {
            verify?: components["schemas"]["VerifyRequest"] | null;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    healthz: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description it is */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    metrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the figures */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/openmetrics-text": string;
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    openapi_json: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OpenAPI 3.1 */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": Record<string, never>;
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    readyz: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description it does */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    post_blob: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/octet-stream": string;
            };
        };
        responses: {
            /** @description it was there */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Blob"];
                };
            };
            /** @description stored */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Blob"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_blob: {
        parameters: {
            query?: never;
            header?: {
                /** @description `bytes=FIRST-LAST` */
                range?: string | null;
            };
            path: {
                digest: components["schemas"]["Digest"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the bytes */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/octet-stream": string;
                };
            };
            /** @description the range */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/octet-stream": string;
                };
            };
            /** @description not changed: nothing ever changes under a digest */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_blob: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                digest: components["schemas"]["Digest"];
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/octet-stream": string;
            };
        };
        responses: {
            /** @description it was there */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Blob"];
                };
            };
            /** @description stored */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Blob"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_cache: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the figures */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CacheView"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    withdraw: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["WithdrawRequest"];
            };
        };
        responses: {
            /** @description how many results went */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Withdrawn"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_secret: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the secret */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CallbackSecret"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    rotate_secret: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters */
                "idempotency-key"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the new secret */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CallbackSecret"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    pool_events: {
        parameters: {
            query?: never;
            header?: {
                /** @description The `id` of the last event that was read */
                "last-event-id"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description events */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": string;
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    info: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description what it is */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Info"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_keys: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the keys, on one page */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeyPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    rotate_key: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the keys, the new one first */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeyPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_modules: {
        parameters: {
            query?: {
                /** @description `next` of the page before; the first page without it. */
                cursor?: string;
                /** @description Items of the page, 1 to 200; 50 by default. */
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description a page */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModulePage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    post_module: {
        parameters: {
            query?: {
                /** @description A name for people; 1 to 200 characters. */
                name?: string;
                /** @description How long the answer waits for the module to be compiled, in milliseconds, up to 300000; 5000 by default. */
                wait_ms?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/wasm": string;
            };
        };
        responses: {
            /** @description it was there */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Module"];
                };
            };
            /** @description stored and analysed */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Module"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_module: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                digest: components["schemas"]["Digest"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the module */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Module"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_module: {
        parameters: {
            query?: {
                /** @description A name for people; 1 to 200 characters. */
                name?: string;
                /** @description How long the answer waits for the module to be compiled, in milliseconds, up to 300000; 5000 by default. */
                wait_ms?: number;
            };
            header?: never;
            path: {
                digest: components["schemas"]["Digest"];
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/wasm": string;
            };
        };
        responses: {
            /** @description it was there */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Module"];
                };
            };
            /** @description stored and analysed */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Module"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_module: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                digest: components["schemas"]["Digest"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description it is gone */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    call_module: {
        parameters: {
            query?: {
                /** @description Exported function; `_start` by default */
                entry?: string;
                /** @description An argument; may come several times, in order */
                arg?: string[];
                /** @description A variable as `NAME=value`; may come several times */
                env?: string[];
                /** @description `standard`, `high`, `once` or `quorum:N`; by default as its module, its workspace or the pool says */
                verify?: string;
                /** @description Wall time of one attempt; 30000 by default */
                timeout_ms?: number;
                /** @description How long to wait for the answer; 60000 by default */
                wait_ms?: number;
                /** @description Whether the run is stored; true by default */
                durable?: boolean;
                /** @description `use`, `refresh` or `off`; `use` by default */
                cache?: string;
            };
            header?: never;
            path: {
                digest: components["schemas"]["Digest"];
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/octet-stream": string;
            };
        };
        responses: {
            /** @description standard output */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_content: {
        parameters: {
            query?: never;
            header?: {
                /** @description `bytes=FIRST-LAST` */
                range?: string | null;
            };
            path: {
                digest: components["schemas"]["Digest"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the wasm */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/wasm": string;
                };
            };
            /** @description the range */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/wasm": string;
                };
            };
            /** @description not changed: nothing ever changes under a digest */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    quarantine_module: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                digest: components["schemas"]["Digest"];
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["QuarantineRequest"];
            };
        };
        responses: {
            /** @description the module */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Module"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    readmit_module: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                digest: components["schemas"]["Digest"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the module */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Module"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_verify: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                digest: components["schemas"]["Digest"];
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["VerifyRequest"];
            };
        };
        responses: {
            /** @description the module */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Module"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_verify: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                digest: components["schemas"]["Digest"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the module */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Module"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    join_pool: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the connection is a WebSocket from now on */
            101: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description it is no WebSocket upgrade */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_repairs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the repairs */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RepairPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_runs: {
        parameters: {
            query?: {
                /** @description One state or several, separated by commas: `queued`, `running`, `succeeded`, `failed`, `canceled`. */
                state?: string;
                /** @description Digest of a module. */
                module?: string;
                /** @description A worker that held an attempt, for instance `w2`. */
                worker?: string;
                /** @description A verdict. */
                verdict?: "pending" | "agreed" | "vouched" | "unchecked" | "disputed" | "nondeterministic";
                /**
                 * @description A text of 1 to 100 characters that occurs in the run's id, in its module's digest or name (both in any case), in its
                 *     entry or in one of its arguments (in this case).
                 */
                text?: string;
                /** @description Submitted at or after, RFC 3339. */
                since?: string;
                /** @description Submitted before, RFC 3339. */
                until?: string;
                /** @description `next` of the page before; the first page without it. */
                cursor?: string;
                /** @description Items of the page, 1 to 200; 50 by default. */
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description a page */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunSummaryPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    post_run: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters */
                "idempotency-key"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RunRequest"];
            };
        };
        responses: {
            /** @description accepted before, under the same Idempotency-Key */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description accepted */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    cancel_runs: {
        parameters: {
            query?: {
                /** @description How long the answer waits for the ends of the runs to be written, in milliseconds, up to 300000; 10000 by default. */
                wait_ms?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["BulkRequest"];
            };
        };
        responses: {
            /** @description how it went with each */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BulkItemPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    rerun_runs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["BulkRequest"];
            };
        };
        responses: {
            /** @description how it went with each */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BulkItemPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_run: {
        parameters: {
            query?: {
                /** @description How long the answer waits for the run's end, in milliseconds, up to 300000; 0 by default. */
                wait_ms?: number;
                /** @description A revision of its final, from 1; the present one by default. A revision is not waited for. */
                revision?: number;
            };
            header?: never;
            path: {
                id: components["schemas"]["RunId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the run as it is */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_attempt_file: {
        parameters: {
            query?: {
                /** @description A revision, from 1, with the attempts that it had; the present one by default. */
                revision?: number;
            };
            header?: {
                /** @description `bytes=FIRST-LAST` */
                range?: string | null;
            };
            path: {
                id: components["schemas"]["RunId"];
                number: number;
                path: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the bytes */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/octet-stream": string;
                };
            };
            /** @description the range */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/octet-stream": string;
                };
            };
            /** @description not changed */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_attempt_stderr: {
        parameters: {
            query?: {
                /** @description A revision, from 1, with the attempts that it had; the present one by default. */
                revision?: number;
            };
            header?: {
                /** @description `bytes=FIRST-LAST` */
                range?: string | null;
            };
            path: {
                id: components["schemas"]["RunId"];
                number: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the bytes */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description the range */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description not changed */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_attempt_stdout: {
        parameters: {
            query?: {
                /** @description A revision, from 1, with the attempts that it had; the present one by default. */
                revision?: number;
            };
            header?: {
                /** @description `bytes=FIRST-LAST` */
                range?: string | null;
            };
            path: {
                id: components["schemas"]["RunId"];
                number: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the bytes */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description the range */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description not changed */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_callbacks: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: components["schemas"]["RunId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the deliveries */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CallbackDeliveryPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    redeliver_callback: {
        parameters: {
            query?: {
                /** @description The revision that is delivered again; the newest by default. */
                revision?: number;
            };
            header?: never;
            path: {
                id: components["schemas"]["RunId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the deliveries; it is on its way */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CallbackDeliveryPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    cancel_run: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: components["schemas"]["RunId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the run, final */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description the run, whose end is not written yet */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    diff: {
        parameters: {
            query?: {
                /** @description Number of an attempt; without both numbers the winner is compared with the first attempt that differs from it. */
                left?: number;
                /** @description Number of another attempt. */
                right?: number;
                /** @description `stdout`, `stderr` or `file:/out/PATH`; by default the first one in which the two differ. */
                stream?: string;
                /** @description A revision, from 1, with the attempts that it had; the present one by default. */
                revision?: number;
            };
            header?: never;
            path: {
                id: components["schemas"]["RunId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the comparison */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Comparison"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    run_events: {
        parameters: {
            query?: {
                /** @description Whether to stay after the run's end and hear of corrections. */
                corrections?: boolean;
            };
            header?: never;
            path: {
                id: components["schemas"]["RunId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description events */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": string;
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_file: {
        parameters: {
            query?: {
                /** @description A revision, from 1; the present one by default. */
                revision?: number;
            };
            header?: {
                /** @description `bytes=FIRST-LAST` */
                range?: string | null;
            };
            path: {
                id: components["schemas"]["RunId"];
                path: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the bytes */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/octet-stream": string;
                };
            };
            /** @description the range */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/octet-stream": string;
                };
            };
            /** @description not changed */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_receipt: {
        parameters: {
            query?: {
                /** @description A revision, from 1; the present one by default. */
                revision?: number;
            };
            header?: never;
            path: {
                id: components["schemas"]["RunId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the receipt */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Receipt"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    rerun_run: {
        parameters: {
            query?: {
                /** @description How long the answer waits for the run's end, in milliseconds, up to 300000; 0 by default. */
                wait_ms?: number;
            };
            header?: never;
            path: {
                id: components["schemas"]["RunId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the new run */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_revisions: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: components["schemas"]["RunId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the revisions */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RevisionPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_stderr: {
        parameters: {
            query?: {
                /** @description A revision, from 1; the present one by default. */
                revision?: number;
            };
            header?: {
                /** @description `bytes=FIRST-LAST` */
                range?: string | null;
            };
            path: {
                id: components["schemas"]["RunId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the bytes */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description the range */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description not changed */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_stdout: {
        parameters: {
            query?: {
                /** @description A revision, from 1; the present one by default. */
                revision?: number;
            };
            header?: {
                /** @description `bytes=FIRST-LAST` */
                range?: string | null;
            };
            path: {
                id: components["schemas"]["RunId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the bytes */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description the range */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description not changed */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    stats: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the figures */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PoolStats"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    series: {
        parameters: {
            query?: {
                /** @description How many minutes, 1 to 1440; 60 by default. */
                minutes?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the minutes, the oldest first */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Series"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_tokens: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the tokens */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TokenPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    post_token: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["TokenRequest"];
            };
        };
        responses: {
            /** @description the token with its secret */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NewToken"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_token: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description it is gone */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_workers: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the workers */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_worker: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: components["schemas"]["WorkerId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the worker */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerDetail"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    forget_worker: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: components["schemas"]["WorkerId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description it is forgotten */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    drain_worker: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: components["schemas"]["WorkerId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the worker */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Worker"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    worker_evidence: {
        parameters: {
            query?: {
                /** @description `next` of the page before; the first page without it. */
                cursor?: string;
                /** @description Items of the page, 1 to 200; 50 by default. */
                limit?: number;
            };
            header?: never;
            path: {
                id: components["schemas"]["WorkerId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description a page */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EvidenceItemPage"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    quarantine_worker: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: components["schemas"]["WorkerId"];
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["QuarantineRequest"];
            };
        };
        responses: {
            /** @description the worker */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Worker"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    readmit_worker: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: components["schemas"]["WorkerId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the worker */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Worker"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_workspace: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the workspace */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Workspace"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_workspace: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["WorkspaceRequest"];
            };
        };
        responses: {
            /** @description the workspace */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Workspace"];
                };
            };
            /** @description a problem; `code` tells which */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
}
