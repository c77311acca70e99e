// The messages of the live connection as types. Nothing here runs: the file is only ever imported by type comments.

/**
 * @typedef {{label: string, do: 'dismiss' | Record<string, unknown>}} Button
 * @typedef {{message: string, title?: string, body?: string, actions?: Button[], style?: Record<string, unknown>,
 *   variant?: string | null}} Block what fills a content slot
 * @typedef {string | number | boolean} Choice
 * @typedef {{id: string, ask: string, choose: Choice[], labels: string[]}} Question `labels` are the words for what
 *   can be chosen, in its order
 * @typedef {{id: string, questions: Question[], answers: Record<string, Choice | Choice[] | null>}} Survey the questions
 *   that apply by now and the answers to them; null: skipped
 * @typedef {{type?: 'prompt', offset: number, id: string, message: string, kind: string, title?: string, body?: string,
 *   actions?: Button[], anchor?: string | null, style?: Record<string, unknown>, expires_at?: string | null,
 *   trigger?: string, variant?: string | null, survey?: Survey | null}} Prompt one with an id already known replaces it
 * @typedef {{id: string, component?: string, skippable?: boolean, status?: string}} Step
 * @typedef {{id: string, variant?: string | null, steps: Step[], position: number}} FlowView
 *
 * @typedef {Prompt & {type: 'prompt'}} PromptFrame
 * @typedef {{type: 'withdraw', offset: number, id: string, reason: string}} WithdrawFrame
 * @typedef {{type: 'content', offset: number, slot: string, block: Block | null}} ContentFrame
 * @typedef {FlowView & {type: 'flow', offset: number, reason: string}} FlowFrame
 * @typedef {{type: 'welcome', session: string | null, connection: string, epoch: string, offset: number,
 *   recovered: boolean, heartbeat_s: number, token_expires_in?: number | null, flow: FlowView | null,
 *   slots: Record<string, Block>, prompts: Prompt[]}} WelcomeFrame
 * @typedef {{type: 'ack', up_to: string}} AckFrame
 * @typedef {{type: 'error', code: string, message: string, fix: string, id?: string, retry_ms?: number}} ErrorFrame
 * @typedef {{type: 'bye', code: number, reconnect_ms: number}} ByeFrame
 * @typedef {{type: 'pong'}} PongFrame
 * @typedef {{type: 'renewed', token_expires_in: number | null}} RenewedFrame
 * @typedef {PromptFrame | WithdrawFrame | ContentFrame | FlowFrame} NumberedFrame
 * @typedef {NumberedFrame | WelcomeFrame | AckFrame | ErrorFrame | ByeFrame | PongFrame | RenewedFrame} ServerFrame
 *
 * @typedef {{type: 'hello', token?: string, user_id?: string, anonymous_id?: string, device: string, tab: string,
 *   epoch?: string, offset?: number, visible: boolean, idle_ms: number}} Hello
 * @typedef {{type: 'track', id: string, name: string, properties: Record<string, unknown>, at?: string}} Track
 * @typedef {{type: 'identify', id: string, traits: Record<string, unknown>}} Identify
 * @typedef {{type: 'activity', visible: boolean, idle_ms: number}} Activity
 * @typedef {{type: 'ping'}} Ping
 * @typedef {{type: 'token', token: string}} Token a newer one of the same user
 * @typedef {Track | Identify} Kept a message that is kept until the server has acknowledged it
 * @typedef {Hello | Kept | Activity | Ping | Token} ClientFrame
 */

export {};
