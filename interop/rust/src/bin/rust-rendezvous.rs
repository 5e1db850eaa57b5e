//! rust-libp2p's rendezvous client and server as one process. It speaks the
//! lines of interop/rendezvous/internal/peerproc.
//!
//! The only option is `--min-ttl SECONDS`: the server's default minimum of two
//! hours is too long to see a registration expire.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::rendezvous::{client, server, Cookie, Namespace};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{identify, identity, noise, tcp, yamux, Multiaddr, PeerId, Swarm, SwarmBuilder};
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, BufReader};

const OP_TIMEOUT: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(NetworkBehaviour)]
struct Behaviour {
    client: client::Behaviour,
    server: server::Behaviour,
    identify: identify::Behaviour,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut server_config = server::Config::default();
    let args: Vec<String> = std::env::args().collect();
    if args.len() == 3 && args[1] == "--min-ttl" {
        server_config = server_config.with_min_ttl(args[2].parse()?);
    }
    let key = identity::Keypair::generate_ed25519();
    let mut swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| Behaviour {
            client: client::Behaviour::new(key.clone()),
            server: server::Behaviour::new(server_config),
            identify: identify::Behaviour::new(identify::Config::new(
                "muster-interop/1.0.0".into(),
                key.public(),
            )),
        })?
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    announce(&mut swarm).await?;

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            _ = swarm.select_next_some() => continue,
        };
        let Some(line) = line else { return Ok(()) };
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"quit") {
            return Ok(());
        }
        let answer = match tokio::time::timeout(OP_TIMEOUT, obey(&mut swarm, &words)).await {
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

async fn announce(swarm: &mut Swarm<Behaviour>) -> Result<()> {
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            swarm.add_external_address(address.clone());
            let peer = *swarm.local_peer_id();
            return print(&json!({
                "event": "listen", "peer": peer.to_string(), "addr": format!("{address}/p2p/{peer}"),
            }));
        }
    }
}

async fn obey(swarm: &mut Swarm<Behaviour>, words: &[&str]) -> Result<Value> {
    match words {
        ["register", point, ns, ttl] => {
            let point = connect(swarm, point).await?;
            let ttl: u64 = ttl.parse()?;
            let ttl = (ttl > 0).then_some(ttl);
            let ns = Namespace::new((*ns).to_owned()).map_err(|_| "namespace too long")?;
            swarm.behaviour_mut().client.register(ns, point, ttl)?;
            match client_event(swarm).await {
                client::Event::Registered { ttl, .. } => Ok(json!({"event": "registered", "ttl": ttl})),
                other => Err(format!("{other:?}").into()),
            }
        }
        ["discover", point, ns, limit, cookie] => {
            let point = connect(swarm, point).await?;
            discover(swarm, point, ns, limit.parse()?, cookie).await
        }
        ["unregister", point, ns] => {
            let point = connect(swarm, point).await?;
            let ns = Namespace::new((*ns).to_owned()).map_err(|_| "namespace too long")?;
            swarm.behaviour_mut().client.unregister(ns, point);
            // The library reports nothing about an unregistration: give it
            // time to be sent.
            let until = tokio::time::Instant::now() + Duration::from_millis(500);
            while tokio::time::timeout_at(until, swarm.select_next_some()).await.is_ok() {}
            Ok(json!({"event": "unregistered"}))
        }
        _ => Err(format!("unknown command {words:?}").into()),
    }
}

async fn discover(
    swarm: &mut Swarm<Behaviour>,
    point: PeerId,
    ns: &str,
    limit: u64,
    cookie: &str,
) -> Result<Value> {
    let ns = match ns {
        "-" => None,
        ns => Some(Namespace::new(ns.to_owned()).map_err(|_| "namespace too long")?),
    };
    let cookie = match cookie {
        "-" => None,
        c => Some(Cookie::from_wire_encoding(hex::decode(c)?)?),
    };
    let limit = (limit > 0).then_some(limit);
    swarm.behaviour_mut().client.discover(ns, cookie, limit, point);
    match client_event(swarm).await {
        client::Event::Discovered { registrations, cookie, .. } => {
            let peers: Vec<Value> = registrations
                .iter()
                .map(|r| {
                    let addrs: Vec<String> = r.record.addresses().iter().map(Multiaddr::to_string).collect();
                    json!({
                        "peer": r.record.peer_id().to_string(), "ns": r.namespace.to_string(),
                        "ttl": r.ttl, "addrs": addrs,
                    })
                })
                .collect();
            let cookie = hex::encode(cookie.into_wire_encoding());
            Ok(json!({"event": "discovered", "cookie": cookie, "peers": peers}))
        }
        other => Err(format!("{other:?}").into()),
    }
}

/// Waits for the answer to the one request under way.
async fn client_event(swarm: &mut Swarm<Behaviour>) -> client::Event {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(BehaviourEvent::Client(client::Event::Expired { .. })) => {}
            SwarmEvent::Behaviour(BehaviourEvent::Client(event)) => return event,
            _ => {}
        }
    }
}

async fn connect(swarm: &mut Swarm<Behaviour>, point: &str) -> Result<PeerId> {
    let addr: Multiaddr = point.parse()?;
    let Some(Protocol::P2p(peer)) = addr.iter().last() else {
        return Err("the point's address has no /p2p".into());
    };
    if swarm.is_connected(&peer) {
        return Ok(peer);
    }
    swarm.dial(addr)?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { peer_id, .. } if peer_id == peer => return Ok(peer),
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
}
