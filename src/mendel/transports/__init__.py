"""The protocols of servers and hub (REST, gRPC, ZMQ, control API): decode requests, encode answers, map errors."""
