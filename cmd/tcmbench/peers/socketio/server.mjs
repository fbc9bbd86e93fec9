// The smallest Socket.IO server: rooms, publishing, and updates that are acknowledged.
//
// It has what https://socket.io/docs/v4/performance-tuning and .../memory-usage advise for the server that npm installs: the native
// add-on of ws (bufferutil; what utf-8-validate does, Node does itself since 18.14), no reference to the first HTTP request, and
// the websocket transport alone, uncompressed, as is the default. A payload is a string, since that is what Socket.IO is fastest
// with: it makes the frame once for a room only if a packet is one string, and sends a Buffer as a second frame.
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Server } from "socket.io";

const { values } = parseArgs({ options: { addr: { type: "string", default: "127.0.0.1:0" } } });
const [host, port] = values.addr.split(":");

const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false });

io.engine.on("connection", (socket) => {
  socket.request = null;
});

io.on("connection", (socket) => {
  socket.on("join", (room, done) => {
    socket.join(room);
    done();
  });
  socket.on("publish", (room, payload) => {
    io.to(room).emit("event", payload);
  });
  socket.on("update", (_update, done) => {
    done();
  });
});

// A storm of reconnects waits here to be accepted.
http.listen({ host, port: Number(port), backlog: 4096 }, () => {
  const at = http.address();
  process.stdout.write(`listening ${at.address}:${at.port}\n`);
});
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => process.exit(0));
}
