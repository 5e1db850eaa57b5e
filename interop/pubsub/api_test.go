package pubsub_test

import (
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The packages whose exported names are compared, theirs and ours.
var apis = [...][2]string{
	{"github.com/libp2p/go-libp2p-pubsub", "github.com/muster-p2p/muster/pubsub"},
	{"github.com/libp2p/go-libp2p-pubsub/pb", "github.com/muster-p2p/muster/pubsub/pb"},
	{"github.com/libp2p/go-libp2p-pubsub/timecache", "github.com/muster-p2p/muster/pubsub/timecache"},
}

// touched are the names that programs written for go-libp2p-pubsub use: they
// have to be here, and the same.
const touched = `NewGossipSub NewFloodSub NewFloodsubWithProtocols NewRandomSub
WithMessageSignaturePolicy WithMessageSigning WithStrictSignatureVerification WithMessageAuthor WithNoAuthor WithMessageIdFn
WithPeerScore WithPeerScoreInspect WithGossipSubParams WithGossipSubProtocols WithPeerExchange WithDirectPeers
WithDirectConnectTicks WithFloodPublish WithDiscovery WithDiscoveryOpts WithEventTracer WithRawTracer WithBlacklist
WithSubscriptionFilter WithPeerFilter WithPeerGater WithMaxMessageSize WithPeerOutboundQueueSize WithValidateQueueSize
WithValidateThrottle WithValidateWorkers WithDefaultValidator WithSeenMessagesTTL WithSeenMessagesStrategy
WithAppSpecificRpcInspector WithProtocolMatchFn WithLogger WithRPCLogger OnlyPublicAddrsOnPeerExchange
PubSub.Join PubSub.Subscribe PubSub.Publish PubSub.ListPeers PubSub.GetTopics PubSub.BlacklistPeer PubSub.PublishBatch
PubSub.RegisterTopicValidator PubSub.UnregisterTopicValidator PubSub.AddDirectPeer PubSub.RemoveDirectPeer PubSub.PeerFeedback
Topic.Publish Topic.Subscribe Topic.Relay Topic.EventHandler Topic.SetScoreParams Topic.ListPeers Topic.Close Topic.String
Topic.AddToBatch WithTopicMessageIdFn FanoutOnly
Subscription.Next Subscription.Cancel Subscription.Topic WithBufferSize WithMessageFilter
TopicEventHandler.NextPeerEvent TopicEventHandler.Cancel PeerEvent.Type PeerEvent.Peer PeerJoin PeerLeave
WithReadiness MinTopicSize WithLocalPublication WithSecretKeyAndPeerId WithValidatorData
Validator ValidatorEx ValidationAccept ValidationReject ValidationIgnore ValidationError
WithValidatorTimeout WithValidatorConcurrency WithValidatorInline NewBasicSeqnoValidator PeerMetadataStore
Message.Message Message.ID Message.ReceivedFrom Message.ValidatorData Message.Local Message.GetFrom
RawTracer EventTracer NewJSONTracer OpenJSONTracer NewPBTracer OpenPBTracer NewRemoteTracer
StrictSign StrictNoSign LaxSign MsgIdFunction DefaultMsgIdFn MessageBatch
NewMapBlacklist NewTimeCachedBlacklist Blacklist SubscriptionFilter NewAllowlistSubscriptionFilter
NewRegexpSubscriptionFilter WrapLimitSubscriptionFilter FilterSubscriptions
GossipSubParams DefaultGossipSubParams PeerScoreParams PeerScoreThresholds TopicScoreParams PeerScoreSnapshot
TopicScoreSnapshot PeerScoreInspectFn ExtendedPeerScoreInspectFn ScoreParameterDecay ScoreParameterDecayWithBase
NewPeerGaterParams DefaultPeerGaterParams GossipSubDefaultProtocols GossipSubDefaultFeatures
FloodSubID RandomSubID GossipSubID_v10 GossipSubID_v11 GossipSubID_v12 TimeCacheDuration TimeCacheStrategy
ErrSubscriptionCancelled ErrTopicClosed ErrTooManySubscriptions ErrFanoutOnlyTopic ErrNilSignKey ErrEmptyPeerID`

// absent are the names that we do not have, by their beginnings, and why;
// docs/migration-pubsub.md tells users.
var absent = map[string]string{
	"AcceptAll": routers, "AcceptControl": routers, "AcceptNone": routers, "AcceptStatus": routers, "PubSubRouter.": routers,
	"NewPubSub": routers, "NewGossipSubWithRouter": routers, "DefaultGossipSubRouter": routers, "GossipSubRouter": routers,
	"FloodSubRouter": routers, "RandomSubRouter": routers, "BatchPublisher": routers,
	"MessageCache": routers, "NewMessageCache": routers, "CacheEntry": routers,
	"RPCScheduler": batches, "RoundRobinMessageIDScheduler": batches, "BatchPublishOptions.Strategy": batches,
	"GossipSubID_v13": extensions, "PeerExtensions": extensions, "TestExtension": extensions, "WithTestExtension": extensions,
	"WithPartialMessagesExtension": extensions, "PublishPartial": extensions, "RequestPartialMessages": extensions,
	"SupportsPartialMessages": extensions, "PartialMessagesExtension": extensions,
	"RPC.GetPartial": extensions, "RPC.GetTestExtension": extensions, "RPC.Partial": extensions, "RPC.TestExtension": extensions,
	"PXRecordReducer": "OnlyPublicAddrsOnPeerExchange", "WithCustomPXRecordReducer": "OnlyPublicAddrsOnPeerExchange",
	"BackoffConnectorFactory": "WithDiscoverConnector takes a function of any connector",
	"Backoff":                 dials, "MaxBackoff": dials, "MinBackoff": dials, "TimeToLive": dials, "DiscoveryPoll": dials,
	"GossipSubConnTag":  "only mesh and direct peers are tagged, by constants",
	"MinTraceBatchSize": sizes, "TraceBufferSize": sizes,
	"ErrQueueCancelled": "Publish says ErrClosed", "ErrQueueClosed": "Publish says ErrClosed", "ErrQueuePushOnClosed": "Publish says ErrClosed",
	"FirstSeenCache": caches, "LastSeenCache": caches, "NewTimeCache": caches, "TimeCache": caches,
	"ValidateRawRPCControlMessageSize": "Limits.ControlBytes",
	"TraceEvent_Type_name":             generated, "TraceEvent_Type_value": generated, "TraceEvent_Type.": generated,
}

const (
	routers    = "the router is no interface"
	batches    = "batches are sent round robin"
	extensions = "gossipsub 1.3"
	dials      = "the pace of dials and streams is no setting"
	sizes      = "tracers have constants"
	caches     = "the package names strategies and holds no cache"
	generated  = "pb is written by hand"
)

// differ are the names that are something else, and why a program that uses
// them in the usual way compiles all the same.
var differ = map[string]string{
	"Option":                       "a function of Config: only who writes options of his own sees it",
	"DiscoverOpt":                  "of an exported type",
	"ValidatorOpt":                 "of another unexported type",
	"WithDiscoverConnector":        "generic: takes the same functions, and others",
	"DefaultMaxControlMessageSize": "twice as much",
	"LaxNoSign":                    "has its type",
	"GossipSubFeatureMesh":         "has its type",
	"GossipSubFeaturePX":           "has its type",
	"GossipSubFeatureIdontwant":    "has its type",
	"GossipSubFeatureExtensions":   "has its type",
}

// TestAPI compares every exported name of go-libp2p-pubsub, with all methods
// and fields, with ours.
func TestAPI(t *testing.T) {
	load := loader(t)
	used := map[string]bool{}
	for _, pair := range apis {
		theirs, ours := names(load(pair[0])), names(load(pair[1]))
		for name, want := range theirs {
			have, ok := ours[name]
			switch {
			case isGenerated(name):
			case !ok:
				prefix := beginning(name)
				if used[prefix] = true; prefix == "" {
					t.Errorf("%s is not here: %s", name, want)
				}
			case have != want && differ[name] == "":
				t.Errorf("%s is\n%s, there\n%s", name, have, want)
			case have != want:
				used[name] = true
			}
		}
		if pair != apis[0] {
			continue
		}
		for name := range strings.FieldsSeq(touched) {
			if theirs[name] == "" || theirs[name] != ours[name] {
				t.Errorf("%s, which users touch, is %q there and %q here", name, theirs[name], ours[name])
			}
		}
	}
	for _, list := range []map[string]string{absent, differ} {
		for name := range list {
			if !used[name] {
				t.Errorf("%s is listed as another or absent and is neither", name)
			}
		}
	}
}

// beginning returns the longest entry of absent that name begins with.
func beginning(name string) string {
	best := ""
	for p := range absent {
		if strings.HasPrefix(name, p) && len(p) > len(best) {
			best = p
		}
	}
	return best
}

// isGenerated reports whether a name is one of those that protobuf's compiler
// makes for the library's own use.
func isGenerated(name string) bool {
	if _, method, ok := strings.Cut(name, "."); ok {
		switch method {
		case "Marshal", "MarshalTo", "MarshalToSizedBuffer", "Unmarshal", "UnmarshalJSON", "Size", "Reset",
			"ProtoMessage", "ProtoReflect", "Descriptor", "EnumDescriptor", "String", "LogValue":
			return true
		}
		return strings.HasPrefix(method, "XXX_")
	}
	return strings.HasPrefix(name, "ErrInvalidLength") || strings.HasPrefix(name, "ErrIntOverflow") ||
		strings.HasPrefix(name, "ErrUnexpectedEndOfGroup") || strings.HasPrefix(name, "File_")
}

// loader returns a function that gives packages from the compiler's export data.
func loader(t *testing.T) func(path string) *types.Package {
	t.Helper()
	args := []string{"list", "-deps", "-export", "-f", "{{.ImportPath}} {{.Export}}"}
	for _, pair := range apis {
		args = append(args, pair[0], pair[1])
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			files[path] = file
		}
	}
	imp := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(files[path])
	})
	return func(path string) *types.Package {
		p, err := imp.Import(path)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// names returns all exported names of a package, with the methods and fields
// of its types, and what each is; of both libraries in the same words.
func names(p *types.Package) map[string]string {
	out := map[string]string{}
	same := func(q *types.Package) string {
		path := q.Path()
		for _, pair := range apis {
			if path == pair[1] {
				path = pair[0]
			}
		}
		return path
	}
	say := func(t types.Type) string { return types.TypeString(unnamed(t), same) }
	for _, name := range p.Scope().Names() {
		o := p.Scope().Lookup(name)
		if !o.Exported() {
			continue
		}
		switch o := o.(type) {
		case *types.Const:
			out[name] = "const " + say(o.Type()) + " = " + o.Val().ExactString()
		case *types.Func:
			out[name] = "func " + strings.TrimPrefix(say(o.Signature()), "func")
		case *types.Var:
			out[name] = "var " + say(o.Type())
		case *types.TypeName:
			out[name] = "type " + kind(o.Type().Underlying(), say)
			addMembers(out, name, o.Type(), say)
		}
	}
	return out
}

// unnamed returns a function's type without the names of its parameters.
func unnamed(t types.Type) types.Type {
	f, ok := t.(*types.Signature)
	if !ok || f.TypeParams().Len() > 0 {
		return t
	}
	bare := func(in *types.Tuple) *types.Tuple {
		var out []*types.Var
		for v := range in.Variables() {
			out = append(out, types.NewParam(token.NoPos, nil, "", v.Type()))
		}
		return types.NewTuple(out...)
	}
	return types.NewSignatureType(nil, nil, nil, bare(f.Params()), bare(f.Results()), f.Variadic())
}

func kind(u types.Type, say func(types.Type) string) string {
	switch u.(type) {
	case *types.Struct:
		return "struct"
	case *types.Interface:
		return "interface"
	}
	return say(u)
}

func addMembers(out map[string]string, name string, t types.Type, say func(types.Type) string) {
	if s, ok := t.Underlying().(*types.Struct); ok {
		for f := range s.Fields() {
			if f.Exported() {
				out[name+"."+f.Name()] = "field " + say(f.Type())
			}
		}
	}
	set := types.NewMethodSet(t)
	if !types.IsInterface(t) {
		set = types.NewMethodSet(types.NewPointer(t))
	}
	for sel := range set.Methods() {
		if m := sel.Obj(); m.Exported() {
			out[name+"."+m.Name()] = "method " + strings.TrimPrefix(say(sel.Type()), "func")
		}
	}
}
