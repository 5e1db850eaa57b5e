//! rust-libp2p's gossipsub and floodsub as a process. It speaks the lines of
//! interop/pubsub/internal/peerproc.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, PublishError, ValidationMode};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{floodsub, identify, identity, noise, tcp, yamux, Multiaddr, PeerId, Swarm, SwarmBuilder};
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{timeout, timeout_at, Instant};

const OP_TIMEOUT: Duration = Duration::from_secs(60);
/// Room for a message of 1 MiB and its envelope.
const MAX_TRANSMIT: usize = 2 << 20;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(NetworkBehaviour)]
struct Behaviour {
    gossip: Toggle<gossipsub::Behaviour>,
    flood: Toggle<floodsub::Behaviour>,
    identify: identify::Behaviour,
}

struct Options {
    router: String,
    sign: String,
    px: bool,
    degree: usize,
}

fn options() -> Result<Options> {
    let mut o = Options { router: "gossipsub".into(), sign: "strict".into(), px: false, degree: 0 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--px" => o.px = true,
            "--router" => o.router = args.next().ok_or("--router what?")?,
            "--sign" => o.sign = args.next().ok_or("--sign what?")?,
            "--degree" => o.degree = args.next().ok_or("--degree what?")?.parse()?,
            other => return Err(format!("unknown flag {other}").into()),
        }
    }
    Ok(o)
}

fn gossip(key: &identity::Keypair, o: &Options) -> Result<gossipsub::Behaviour> {
    let anonymous = o.sign == "none";
    let mut config = gossipsub::ConfigBuilder::default();
    config
        .max_transmit_size(MAX_TRANSMIT)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .validation_mode(if anonymous { ValidationMode::Anonymous } else { ValidationMode::Strict })
        .message_id_fn(move |m: &gossipsub::Message| {
            if anonymous {
                return MessageId::from(Sha256::digest(&m.data).to_vec());
            }
            // The id that go-libp2p-pubsub uses: the author's bytes and the
            // sequence number.
            let mut id = m.source.map(|p| p.to_bytes()).unwrap_or_default();
            id.extend(m.sequence_number.unwrap_or_default().to_be_bytes());
            MessageId::from(id)
        });
    if o.px {
        config.do_px();
    }
    if o.degree > 0 {
        config.mesh_outbound_min(0).mesh_n(o.degree).mesh_n_low(o.degree).mesh_n_high(o.degree);
    }
    let author = if anonymous { MessageAuthenticity::Anonymous } else { MessageAuthenticity::Signed(key.clone()) };
    Ok(gossipsub::Behaviour::new(author, config.build()?)?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let o = options()?;
    let key = identity::Keypair::generate_ed25519();
    let gossip = if o.router == "gossipsub" { Some(gossip(&key, &o)?) } else { None };
    let flood = (o.router == "floodsub").then(|| floodsub::Behaviour::new(key.public().to_peer_id()));
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| Behaviour {
            gossip: gossip.into(),
            flood: flood.into(),
            identify: identify::Behaviour::new(identify::Config::new(
                "muster-interop/1.0.0".into(),
                key.public(),
            )),
        })?
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    let mut node = Node { swarm, seen: HashMap::new(), corrupt: HashMap::new() };
    node.swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    node.announce().await?;

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            event = node.swarm.select_next_some() => { node.on(event); continue }
        };
        let Some(line) = line else { return Ok(()) };
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"quit") {
            return Ok(());
        }
        let answer = match timeout(OP_TIMEOUT, node.obey(&words)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(err)) => json!({"event": "error", "error": err.to_string()}),
            Err(_) => json!({"event": "error", "error": "timed out"}),
        };
        print(&answer)?;
    }
}

fn print(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()?;
    Ok(())
}

struct Node {
    swarm: Swarm<Behaviour>,
    /// topic → head of message → copies
    seen: HashMap<String, HashMap<String, usize>>,
    corrupt: HashMap<String, usize>,
}

impl Node {
    async fn announce(&mut self) -> Result<()> {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = self.swarm.select_next_some().await {
                let peer = *self.swarm.local_peer_id();
                return print(&json!({
                    "event": "listen", "peer": peer.to_string(), "addr": format!("{address}/p2p/{peer}"),
                }));
            }
        }
    }

    fn on(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. })) => {
                self.message(message.topic.to_string(), &message.data);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Flood(floodsub::Event::Message(message))) => {
                let data = message.data.to_vec();
                for topic in message.topics {
                    self.message(topic.id().to_owned(), &data);
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                if let Some(flood) = self.swarm.behaviour_mut().flood.as_mut() {
                    flood.add_node_to_partial_view(peer_id);
                }
            }
            _ => {}
        }
    }

    fn message(&mut self, topic: String, data: &[u8]) {
        let cut = data.iter().position(|b| *b == b' ');
        match cut {
            Some(cut) if data[cut + 1..].iter().all(|b| *b == b'x') => {
                let head = String::from_utf8_lossy(&data[..cut]).into_owned();
                *self.seen.entry(topic).or_default().entry(head).or_default() += 1;
            }
            _ => *self.corrupt.entry(topic).or_default() += 1,
        }
    }

    /// Drives the swarm for a while.
    async fn drive(&mut self, d: Duration) {
        let until = Instant::now() + d;
        while let Ok(event) = timeout_at(until, self.swarm.select_next_some()).await {
            self.on(event);
        }
    }

    async fn obey(&mut self, words: &[&str]) -> Result<Value> {
        match words {
            ["connect", addr] => self.connect(addr).await,
            ["subscribe", topic] => self.subscribe(topic, true),
            ["unsubscribe", topic] => self.subscribe(topic, false),
            ["publish", topic, tag, count, size] => {
                self.publish(topic, tag, count.parse()?, size.parse()?).await
            }
            ["received", topic, tag] => Ok(self.received(topic, tag)),
            ["state", topic] => Ok(self.state(topic)),
            _ => Err(format!("unknown command {words:?}").into()),
        }
    }

    async fn connect(&mut self, addr: &str) -> Result<Value> {
        let addr: Multiaddr = addr.parse()?;
        let Some(Protocol::P2p(peer)) = addr.iter().last() else {
            return Err("the address has no /p2p".into());
        };
        if !self.swarm.is_connected(&peer) {
            // From a port of its own: the listening one may still be tied to
            // a peer that was killed.
            self.swarm.dial(DialOpts::peer_id(peer).addresses(vec![addr]).allocate_new_port().build())?;
        }
        while !self.swarm.is_connected(&peer) {
            let event = self.swarm.select_next_some().await;
            if let SwarmEvent::OutgoingConnectionError { error, .. } = event {
                return Err(error.into());
            }
            self.on(event);
        }
        Ok(json!({"event": "ok"}))
    }

    fn subscribe(&mut self, topic: &str, on: bool) -> Result<Value> {
        let behaviour = self.swarm.behaviour_mut();
        if let Some(gossip) = behaviour.gossip.as_mut() {
            let topic = IdentTopic::new(topic);
            if on {
                gossip.subscribe(&topic)?;
            } else {
                gossip.unsubscribe(&topic);
            }
        }
        if let Some(flood) = behaviour.flood.as_mut() {
            let topic = floodsub::Topic::new(topic);
            if on {
                flood.subscribe(topic);
            } else {
                flood.unsubscribe(topic);
            }
        }
        Ok(json!({"event": "ok"}))
    }

    async fn publish(&mut self, topic: &str, tag: &str, count: usize, size: usize) -> Result<Value> {
        for i in 0..count {
            let mut data = format!("{tag}-{i} ").into_bytes();
            data.resize(size.max(data.len()), b'x');
            loop {
                let behaviour = self.swarm.behaviour_mut();
                let result = match (behaviour.gossip.as_mut(), behaviour.flood.as_mut()) {
                    (Some(gossip), _) => gossip.publish(IdentTopic::new(topic), data.clone()).map(|_| ()),
                    (_, Some(flood)) => {
                        flood.publish_any(floodsub::Topic::new(topic), data.clone());
                        Ok(())
                    }
                    _ => unreachable!("one router is always there"),
                };
                match result {
                    Ok(()) => break,
                    Err(PublishError::AllQueuesFull(_)) => self.drive(Duration::from_millis(5)).await,
                    // Published to nobody, which others do not call an error.
                    Err(PublishError::NoPeersSubscribedToTopic) => break,
                    Err(err) => return Ok(json!({"event": "published", "count": i, "error": err.to_string()})),
                }
            }
            if i % 16 == 15 {
                self.drive(Duration::from_millis(2)).await;
            }
        }
        Ok(json!({"event": "published", "count": count}))
    }

    fn received(&self, topic: &str, tag: &str) -> Value {
        let (mut count, mut duplicates) = (0, 0);
        for (head, copies) in self.seen.get(topic).into_iter().flatten() {
            if head.rsplit_once('-').is_some_and(|(t, _)| t == tag) {
                count += 1;
                duplicates += copies - 1;
            }
        }
        let corrupt = self.corrupt.get(topic).copied().unwrap_or_default();
        json!({"event": "received", "count": count, "duplicates": duplicates, "corrupt": corrupt})
    }

    /// The mesh and the subscribers; rust-libp2p shows no RPCs to count.
    fn state(&self, topic: &str) -> Value {
        let hash = IdentTopic::new(topic).hash();
        let text = |p: &PeerId| p.to_string();
        let (mut mesh, mut subscribers) = (vec![], vec![]);
        if let Some(gossip) = self.swarm.behaviour().gossip.as_ref() {
            mesh = gossip.mesh_peers(&hash).map(text).collect();
            subscribers = gossip
                .all_peers()
                .filter(|(_, topics)| topics.contains(&&hash))
                .map(|(p, _)| text(p))
                .collect();
        }
        let connected: Vec<String> = self.swarm.connected_peers().map(text).collect();
        json!({
            "event": "state", "mesh": mesh, "subscribers": subscribers, "connected": connected, "dropped": 0,
        })
    }
}
