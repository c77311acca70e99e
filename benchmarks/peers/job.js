'use strict'
// The whole job in Node: `node job.js PORT STORE rules|ifs`. A user's state is kept while they are connected, one script
// commits a turn, and commands that are ready at once leave together (ioredis's automatic pipelining). Its keys begin with its port: others use the store, too.

const fs = require('node:fs')
const path = require('node:path')
const { WebSocketServer } = require('ws')
const { Redis } = require('ioredis')
const { byEngine, byHand } = require('./rules.js')

const [port, store, way] = process.argv.slice(2)
const SESSION = 30 * 60000
const NOBODY = '0'.repeat(16)
const decide = way === 'rules' ? byEngine() : byHand
const redis = new Redis(store, { enableAutoPipelining: true })
redis.defineCommand('commitTurn', { numberOfKeys: 4, lua: fs.readFileSync(path.join(__dirname, 'commit.lua'), 'utf8') })

class User {
  constructor (id, socket) {
    this.id = id
    this.socket = socket
    this.turn = this.load() // turns of one user come one after the other
  }

  async load () {
    const stored = await redis.get(`${port}:state:${this.id}`)
    this.version = stored ? stored.slice(0, 16) : NOBODY
    this.state = stored ? JSON.parse(stored.slice(16)) : fresh(this.id)
  }

  receive (message) {
    const act = message.type === 'identify' ? () => this.identify(message) : () => this.track(message)
    this.turn = this.turn.then(act).catch((error) => { console.error(error); this.socket.close(1011) })
  }

  identify (message) {
    Object.assign(this.state.traits, message.traits)
    this.socket.send('{"type":"ack"}')
  }

  async track (event) {
    for (;;) {
      const now = Date.now()
      const state = touch(this.state, event, now)
      const actions = await decide(state, event.properties)
      const message = act(state, actions, event)
      if (await this.commit(state, now, message, event, actions)) {
        if (message) this.socket.send(message)
        return
      }
      await this.load() // somebody else wrote: decide again on what they left
    }
  }

  async commit (state, now, message, event, actions) {
    const version = String(Number(this.version) + 1).padStart(16, '0')
    const line = JSON.stringify({ at: now, event, decisions: actions.map((action) => action.type) })
    const written = await redis.commitTurn(
      `${port}:state:${this.id}`, `${port}:timers`, `${port}:outbox:${this.id}`, `${port}:log`,
      this.version, version + JSON.stringify(state), now + SESSION, this.id, message, line)
    if (written !== 1) return false
    this.version = version
    this.state = state
    return true
  }
}

function fresh (user) {
  return { user, traits: {}, sessions: 0, session: null, counters: { moved: 0 }, slots: {}, offset: 0 }
}

function touch (before, event, now) {
  const state = { ...before, traits: { ...before.traits }, counters: { moved: before.counters.moved + 1 }, slots: { ...before.slots } }
  if (!state.session || now - state.session.newest > SESSION) {
    state.sessions += 1
    state.session = { id: `${state.user}-${state.sessions}`, started: now, newest: now }
  } else {
    state.session = { ...state.session, newest: now }
  }
  return state
}

function act (state, actions, event) {
  let message = ''
  for (const { type, params } of actions) {
    if (type === 'set') Object.assign(state.traits, params)
    else {
      const block = { message: params.message, title: `You are at ${event.properties.n}`, body: '', actions: [], style: {}, variant: null }
      state.offset += 1
      state.slots[params.slot] = block
      message = JSON.stringify({ type: 'content', offset: state.offset, slot: params.slot, block })
    }
  }
  return message
}

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(port), perMessageDeflate: false, maxPayload: 65536 })
server.on('connection', (socket, request) => {
  const user = new User(new URL(request.url, 'http://localhost').searchParams.get('user'), socket)
  socket.on('message', (data) => user.receive(JSON.parse(data)))
})
