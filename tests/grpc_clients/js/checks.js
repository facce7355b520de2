// Checks Mendel's gRPC door with grpc-js; the argument is JSON: {"address", "aging", "key", "descriptors", "age_s"}, where
// connections to "aging" end after age_s seconds. Prints a JSON object of each check's name and what went wrong, "" where
// nothing did.
"use strict";

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const given = JSON.parse(process.argv[2]);
const LARGE = 20 << 20;
const MEDIUM = "x".repeat(1 << 16);
const STREAMS = 300;
const OPTIONS = { "grpc.max_receive_message_length": 2 * LARGE, "grpc.max_send_message_length": 2 * LARGE };
const { status, compressionAlgorithms } = grpc;

const descriptors = Buffer.from(given.descriptors, "base64");
const types = grpc.loadPackageDefinition(loader.loadFileDescriptorSetFromBuffer(descriptors, { enums: String, defaults: true }));

function open(service, options = {}, address = given.address) {
  return new service(address, grpc.credentials.createInsecure(), { ...OPTIONS, ...options });
}

const clients = {
  v2: open(types.inference.GRPCInferenceService),
  modelops: open(types.modelops.ModelOps),
  health: open(types.grpc.health.v1.Health),
  reflection: open(types.grpc.reflection.v1alpha.ServerReflection),
};

function expect(truth, told) {
  if (!truth) throw new Error(typeof told === "string" ? told : (JSON.stringify(told) ?? String(told)).slice(0, 300));
}

// Calls a method; gives the answer, or the error, with the headers of the answer.
function ask(client, method, request, { seconds = 30, headers = {}, key = given.key, began = () => {} } = {}) {
  const metadata = new grpc.Metadata();
  if (key) metadata.set("authorization", `Bearer ${key}`);
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  const deadline = Date.now() + seconds * 1000;
  return new Promise((resolve) => {
    let received = null;
    const call = client[method](request, metadata, { deadline }, (error, answer) => resolve({ error, answer, received }));
    call.on("metadata", (found) => (received = found));
    began(call);
  });
}

function tensor(model, values, more = {}) {
  const input = { name: "x", datatype: "FP64", shape: [1, values.length], contents: { fp64_contents: values } };
  return { model_name: model, inputs: [input], ...more };
}

// Asks the model "sum" for a row that adds up to value.
async function add(value, { id = "", client = clients.v2 } = {}) {
  const { error, answer } = await ask(client, "modelInfer", tensor("sum", [value, 1, -1], { id }));
  if (error) throw error;
  const [got] = answer.outputs[0].contents.fp64_contents;
  expect(got === value && answer.id === id, answer);
}

function refused({ error, answer }, code, text = "") {
  expect(error && error.code === code && error.details.includes(text), error ? `${error.code} ${error.details}` : answer);
}

function prompt(model, text) {
  return ask(clients.modelops, "infer", { model_name: model, prompt: text });
}

const checks = {
  "typed tensors": () => add(7.5, { id: "one" }),

  "plain JSON": async () => {
    const { error, answer } = await prompt("sum", '{"records": [{"a": 1, "b": 2, "c": 3.5}]}');
    if (error) throw error;
    expect(JSON.parse(answer.response_text).predictions[0] === 6.5, answer);
  },

  mistakes: async () => {
    refused(await prompt("nöbödy €", '{"a": 1}'), status.NOT_FOUND, "'nöbödy €'");
    refused(await prompt("sum", '{"records": [{"a": 1, "b": 2}]}'), status.INVALID_ARGUMENT, "'c'");
    const keyless = await ask(clients.v2, "modelInfer", tensor("sum", [1, 2, 3]), { key: null });
    refused(keyless, status.UNAUTHENTICATED, "authorization");
    const bytes = (value) => value;
    const unknown = await new Promise((resolve) => {
      clients.v2.makeUnaryRequest("/no.Service/Method", bytes, bytes, Buffer.alloc(0), (error) => resolve({ error }));
    });
    refused(unknown, status.UNIMPLEMENTED);
  },

  deadline: async () => {
    refused(await ask(clients.v2, "modelInfer", tensor("held", [1, 2, 3]), { seconds: 0.3 }), status.DEADLINE_EXCEEDED);
  },

  cancellation: async () => {
    const began = (call) => setTimeout(() => call.cancel(), 200);
    refused(await ask(clients.v2, "modelInfer", tensor("held", [1, 2, 3]), { began }), status.CANCELLED);
  },

  metadata: async () => {
    const headers = { "x-request-id": "order-7", "note-bin": Buffer.from([0, 255]), note: "a, b" };
    const { error, received } = await ask(clients.v2, "modelInfer", tensor("sum", [1, 2, 3]), { headers });
    if (error) throw error;
    expect(received.get("x-request-id").join() === "order-7", received);
  },

  gzip: async () => {
    const client = open(types.inference.GRPCInferenceService, {
      "grpc.default_compression_algorithm": compressionAlgorithms.gzip,
    });
    await add(1, { id: MEDIUM, client });
    client.close();
  },

  "20 MiB": () => add(1, { id: "x".repeat(LARGE) }),

  "many at once": () => Promise.all(Array.from({ length: STREAMS }, (_, value) => add(value))),

  // Calls, one after the other, for longer than a connection may live.
  reconnecting: async () => {
    const end = Date.now() + 2500 * given.age_s;
    const client = open(types.inference.GRPCInferenceService, {}, given.aging);
    for (let count = 0; Date.now() < end; count++) await add(count, { id: MEDIUM, client });
    client.close();
  },

  health: async () => {
    for (const service of ["", "inference.GRPCInferenceService", "modelops.ModelOps"]) {
      const { error, answer } = await ask(clients.health, "check", { service });
      if (error) throw error;
      expect(answer.status === "SERVING", answer);
    }
    refused(await ask(clients.health, "check", { service: "nobody" }), status.NOT_FOUND, "'nobody'");
    const watching = clients.health.watch({ service: "" });
    const told = await new Promise((resolve, reject) => watching.once("data", resolve).once("error", reject));
    watching.on("error", () => {}).cancel();
    expect(told.status === "SERVING", told);
  },

  reflection: async () => {
    const stream = clients.reflection.serverReflectionInfo();
    const next = () => new Promise((resolve, reject) => stream.once("data", resolve).once("error", reject));
    stream.write({ list_services: "" });
    const listed = (await next()).list_services_response.service.map(({ name }) => name);
    expect(listed.includes("inference.GRPCInferenceService"), listed);
    stream.write({ file_containing_symbol: "inference.GRPCInferenceService" });
    expect((await next()).file_descriptor_response.file_descriptor_proto.length > 0, "no file");
    stream.end();
  },
};

async function main() {
  const told = {};
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      told[name] = "";
    } catch (error) {
      told[name] = String(error);
    }
  }
  console.log(JSON.stringify(told));
  Object.values(clients).forEach((client) => client.close());
}

main();
