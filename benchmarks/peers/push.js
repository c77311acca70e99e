'use strict'
// One message to everybody, in Node: `node push.js PORT STORE ws|socketio`. POST /publish with the message as JSON.

const http = require('node:http')
const { WebSocket, WebSocketServer } = require('ws')
const { Server } = require('socket.io')
const { createAdapter } = require('@socket.io/redis-adapter')
const { Redis } = require('ioredis')

const [port, store, way] = process.argv.slice(2)
const server = http.createServer((request, response) => {
  const parts = []
  request.on('data', (part) => parts.push(part))
  request.on('end', () => {
    publish(Buffer.concat(parts))
    response.end()
  })
})
const publish = way === 'ws' ? byWebSocket() : bySocketIO()
server.listen(Number(port), '127.0.0.1', 4096)

function byWebSocket () {
  const wss = new WebSocketServer({ server, perMessageDeflate: false, maxPayload: 65536 })
  wss.on('connection', (socket) => socket.on('error', console.error))
  return (message) => {
    wss.clients.forEach((client) => {
      if (client.readyState === WebSocket.OPEN) client.send(message, { binary: false })
    })
  }
}

function bySocketIO () {
  const redis = new Redis(store)
  const io = new Server(server, { adapter: createAdapter(redis, redis.duplicate()) })
  return (message) => io.emit('message', JSON.parse(message))
}
