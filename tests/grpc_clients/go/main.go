// Checks Mendel's gRPC door with grpc-go; the argument is JSON: {"address", "aging", "key", "descriptors", "age_s"}, where
// connections to "aging" end after age_s seconds. Prints a JSON object of each check's name and what went wrong, "" where
// nothing did.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	large   = 20 << 20
	streams = 300
	v2      = "inference.GRPCInferenceService"
)

var medium = strings.Repeat("x", 1<<16)

type object = map[string]interface{}

type config struct {
	Address     string
	Aging       string
	Key         string
	Descriptors string
	AgeS        float64 `json:"age_s"`
}

type client struct {
	given config
	files *protoregistry.Files
	conn  *grpc.ClientConn
}

func open(given config) (*client, error) {
	encoded, err := base64.StdEncoding.DecodeString(given.Descriptors)
	if err != nil {
		return nil, err
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(encoded, &set); err != nil {
		return nil, err
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, err
	}
	return (&client{given: given, files: files}).dial(given.Address)
}

// dial gives a client of another address.
func (c *client) dial(address string) (*client, error) {
	most := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*large), grpc.MaxCallSendMsgSize(2*large))
	conn, err := grpc.Dial(address, grpc.WithInsecure(), most)
	return &client{c.given, c.files, conn}, err
}

// ask calls a method with the message that the JSON of request says, and gives the JSON of the answer.
func (c *client) ask(ctx context.Context, service, method string, request object, options ...grpc.CallOption) (object, error) {
	found, err := c.files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, err
	}
	types := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
	sent, received := dynamicpb.NewMessage(types.Input()), dynamicpb.NewMessage(types.Output())
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(text, sent); err != nil {
		return nil, err
	}
	if err := c.conn.Invoke(ctx, "/"+service+"/"+method, sent, received, options...); err != nil {
		return nil, err
	}
	if text, err = (protojson.MarshalOptions{EmitUnpopulated: true}).Marshal(received); err != nil {
		return nil, err
	}
	var answer object
	return answer, json.Unmarshal(text, &answer)
}

func (c *client) within(seconds float64) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds*float64(time.Second)))
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.given.Key), cancel
}

func tensor(model string, values ...float64) object {
	contents := object{"fp64Contents": values}
	input := object{"name": "x", "datatype": "FP64", "shape": []int{1, len(values)}, "contents": contents}
	return object{"modelName": model, "inputs": []object{input}}
}

// add asks the model "sum" for a row that adds up to value.
func (c *client) add(value float64, id string, options ...grpc.CallOption) error {
	ctx, cancel := c.within(30)
	defer cancel()
	request := tensor("sum", value, 1, -1)
	request["id"] = id
	answer, err := c.ask(ctx, v2, "ModelInfer", request, options...)
	if err != nil {
		return err
	}
	output := answer["outputs"].([]interface{})[0].(object)
	got := output["contents"].(object)["fp64Contents"].([]interface{})
	if len(got) != 1 || got[0] != value || answer["id"] != id {
		return fmt.Errorf("for %v came %.200v", value, answer)
	}
	return nil
}

func (c *client) prompt(model, prompt string) (object, error) {
	ctx, cancel := c.within(30)
	defer cancel()
	return c.ask(ctx, "modelops.ModelOps", "Infer", object{"modelName": model, "prompt": prompt})
}

func (c *client) plain() error {
	answer, err := c.prompt("sum", `{"records": [{"a": 1, "b": 2, "c": 3.5}]}`)
	if err != nil {
		return err
	}
	if text := answer["responseText"].(string); !strings.Contains(text, `"predictions":[6.5]`) {
		return fmt.Errorf("the answer was %s", text)
	}
	return nil
}

// refused says what is wrong with an error that should have a code, and a message with a text.
func refused(err error, code codes.Code, text string) error {
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), text) {
		return fmt.Errorf("expected %v with %q, got %v", code, text, err)
	}
	return nil
}

func (c *client) mistakes() error {
	_, err := c.prompt("nöbödy €", `{"a": 1}`)
	if err := refused(err, codes.NotFound, "'nöbödy €'"); err != nil {
		return err
	}
	_, err = c.prompt("sum", `{"records": [{"a": 1, "b": 2}]}`)
	if err := refused(err, codes.InvalidArgument, "'c'"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err = c.ask(ctx, v2, "ModelInfer", tensor("sum", 1, 2, 3))
	if err := refused(err, codes.Unauthenticated, "authorization"); err != nil {
		return err
	}
	empty := dynamicpb.NewMessage((&descriptorpb.FileDescriptorSet{}).ProtoReflect().Descriptor())
	return refused(c.conn.Invoke(ctx, "/no.Service/Method", empty, empty), codes.Unimplemented, "")
}

func (c *client) deadline() error {
	ctx, cancel := c.within(0.3)
	defer cancel()
	_, err := c.ask(ctx, v2, "ModelInfer", tensor("held", 1, 2, 3))
	return refused(err, codes.DeadlineExceeded, "")
}

func (c *client) cancellation() error {
	ctx, cancel := c.within(30)
	time.AfterFunc(200*time.Millisecond, cancel)
	_, err := c.ask(ctx, v2, "ModelInfer", tensor("held", 1, 2, 3))
	return refused(err, codes.Canceled, "")
}

func (c *client) metadata() error {
	ctx, cancel := c.within(30)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", "order-7", "note-bin", "\x00\xff", "note", "a, b")
	var header, trailer metadata.MD
	_, err := c.ask(ctx, v2, "ModelInfer", tensor("sum", 1, 2, 3), grpc.Header(&header), grpc.Trailer(&trailer))
	if err == nil && strings.Join(header.Get("x-request-id"), ",") != "order-7" {
		err = fmt.Errorf("the headers were %v, the trailers %v", header, trailer)
	}
	return err
}

// together makes calls at once over one connection.
func (c *client) together() error {
	var wait sync.WaitGroup
	wrong := make(chan error, streams)
	for place := 0; place < streams; place++ {
		wait.Add(1)
		go func(value float64) {
			defer wait.Done()
			wrong <- c.add(value, "")
		}(float64(place))
	}
	wait.Wait()
	close(wrong)
	for err := range wrong {
		if err != nil {
			return err
		}
	}
	return nil
}

// again makes calls, one after the other, for longer than a connection may live.
func (c *client) again() error {
	ages, err := c.dial(c.given.Aging)
	if err != nil {
		return err
	}
	defer ages.conn.Close()
	end := time.Now().Add(time.Duration(2.5 * c.given.AgeS * float64(time.Second)))
	for count := 0; time.Now().Before(end); count++ {
		if err := ages.add(float64(count), medium); err != nil {
			return fmt.Errorf("call %d: %v", count, err)
		}
	}
	return nil
}

func (c *client) health() error {
	ctx, cancel := c.within(30)
	defer cancel()
	health := grpc_health_v1.NewHealthClient(c.conn)
	for _, service := range []string{"", v2, "modelops.ModelOps"} {
		answer, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil || answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
			return fmt.Errorf("%q: %v, %v", service, answer, err)
		}
	}
	_, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "nobody"})
	if err := refused(err, codes.NotFound, "'nobody'"); err != nil {
		return err
	}
	watching, err := health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if told, err := watching.Recv(); err != nil || told.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("watch: %v, %v", told, err)
	}
	return nil
}

func (c *client) reflection() error {
	ctx, cancel := c.within(30)
	defer cancel()
	stream, err := grpc_reflection_v1alpha.NewServerReflectionClient(c.conn).ServerReflectionInfo(ctx)
	if err != nil {
		return err
	}
	list := &grpc_reflection_v1alpha.ServerReflectionRequest_ListServices{}
	symbol := &grpc_reflection_v1alpha.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: v2}
	for _, request := range []*grpc_reflection_v1alpha.ServerReflectionRequest{{MessageRequest: list}, {MessageRequest: symbol}} {
		if err := stream.Send(request); err != nil {
			return err
		}
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if told := answer.String(); !strings.Contains(told, v2) && !strings.Contains(told, "GRPCInferenceService") {
			return fmt.Errorf("%.300s", told)
		}
	}
	return stream.CloseSend()
}

func main() {
	var given config
	if err := json.Unmarshal([]byte(os.Args[1]), &given); err != nil {
		panic(err)
	}
	c, err := open(given)
	if err != nil {
		panic(err)
	}
	checks := map[string]func() error{
		"typed tensors": func() error { return c.add(7.5, "one") },
		"plain JSON":    c.plain,
		"mistakes":      c.mistakes,
		"deadline":      c.deadline,
		"cancellation":  c.cancellation,
		"metadata":      c.metadata,
		"gzip":          func() error { return c.add(1, medium, grpc.UseCompressor(gzip.Name)) },
		"20 MiB":        func() error { return c.add(1, strings.Repeat("x", large)) },
		"many at once":  c.together,
		"reconnecting":  c.again,
		"health":        c.health,
		"reflection":    c.reflection,
	}
	told := map[string]string{}
	for name, check := range checks {
		told[name] = ""
		if err := check(); err != nil {
			told[name] = err.Error()
		}
	}
	text, _ := json.Marshal(told)
	fmt.Println(string(text))
}
