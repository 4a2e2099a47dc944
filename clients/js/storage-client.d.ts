/** What a job does now (docs/API.md, "WS /transfer/ws/{job_id}"). */
export interface Message {
  event: "progress" | "stage" | "complete" | "error";
  /** Bytes that were received, and how many are expected; `null` if that is unknown. */
  bytes: number;
  total: number | null;
  status: "pending" | "uploading" | "downloading" | "processing" | "packed" | "moved" | "error";
  stage:
    | "pending"
    | "uploading"
    | "uploaded"
    | "downloading"
    | "downloaded"
    | "extracting"
    | "repacking"
    | "processing"
    | "packed"
    | "error";
  /** 0 to 100 while `extracting` and `repacking`. */
  percent: number | null;
  /** With `error`: the service's words, for people. */
  message?: string;
}

/** The client's own word: a request failed, and is made again after a pause. */
export interface Retry {
  event: "retry";
  message: string;
  seconds: number;
}

export interface Transfer {
  /** The loader's address, such as `https://storage.example.org`. */
  url: string | URL;
  /** The transfer token that the Manager has signed. It names the job. */
  token: string;
  /** Stops the call; what it waits for is rejected with the signal's reason. */
  signal?: AbortSignal;
}

export interface UploadOptions extends Transfer {
  /** The file's name; by default its own. */
  name?: string;
  /** Called with all that happens, in order. */
  onProgress?: (message: Message | Retry) => void;
}

export interface Uploaded {
  job_id: string;
  bytes: number;
  total: number;
}

/** A refusal. */
export class TransferError extends Error {
  /** HTTP status of the answer; 0 if the client itself refuses. */
  status: number;
  /** Seconds that the service asks to wait; 0 if it does not. */
  retryAfter: number;
  /** Whether the same call again would be refused again. */
  isFinal: boolean;
  constructor(message: string, status?: number, retryAfter?: number);
}

/**
 * Sends a file, and returns once it is packed and the Manager was told.
 *
 * Cut connections, restarts of the service and refusals for now only make it wait and go on. An upload that `signal`
 * has stopped, or that ended with its page, goes on where it was when it is called with the same token and file;
 * `localStorage` remembers which file that is. The file is read slice by slice.
 *
 * @throws {TransferError} It is refused for good, or the service does not answer at all.
 */
export function upload(file: Blob, options: UploadOptions): Promise<Uploaded>;

/**
 * Yields a job's present state and then all changes, until it has ended; the same state again is a sign of life. The job
 * need not exist yet.
 *
 * @throws {TransferError} The token is refused.
 */
export function follow(options: Transfer): AsyncGenerator<Message, void, void>;

/**
 * Gives an unfinished upload up, for good.
 *
 * @throws {TransferError} There is none, or it is whole already.
 */
export function cancel(options: Pick<Transfer, "url" | "token">): Promise<void>;

/**
 * Returns what a transfer token says (docs/API.md, "Transfer tokens"), without judging whether it is right.
 *
 * @throws {TransferError} It is no transfer token.
 */
export function claimsOf(token: string): { job_id: string; [claim: string]: unknown };
