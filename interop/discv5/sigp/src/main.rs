//! A sigp/discv5 node behind the line protocol that ../README.md describes.

use enr::{CombinedKey, NodeId};
use discv5::{ConfigBuilder, Discv5, Enr, Event, IpMode, ListenConfig, NodeContact};
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, BufReader};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Flags {
    addr: SocketAddr,
    key: CombinedKey,
    bootnodes: Vec<Enr>,
}

fn flags() -> Result<Flags> {
    let mut f = Flags {
        addr: "127.0.0.1:0".parse()?,
        key: CombinedKey::generate_secp256k1(),
        bootnodes: vec![],
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or("flag without a value")?;
        match flag.as_str() {
            "--addr" => f.addr = value.parse()?,
            "--key" => f.key = CombinedKey::secp256k1_from_bytes(&mut hex::decode(value)?)?,
            "--bootnode" => f.bootnodes.push(value.parse()?),
            other => return Err(format!("unknown flag {other}").into()),
        }
    }
    Ok(f)
}

#[tokio::main]
async fn main() -> Result<()> {
    let f = flags()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut builder = Enr::builder();
    builder.seq(now.as_millis() as u64); // a restarted node must not go back
    builder.ip(f.addr.ip());
    match f.addr {
        SocketAddr::V4(a) => builder.udp4(a.port()),
        SocketAddr::V6(a) => builder.udp6(a.port()),
    };
    let record = builder.build(&f.key)?;
    let config = ConfigBuilder::new(ListenConfig::from(f.addr))
        .request_timeout(Duration::from_secs(1))
        .disable_enr_update()
        .build();
    let mut node: Discv5 = Discv5::new(record, f.key, config)?;
    node.start().await.map_err(debug)?;
    let mut events = node.event_stream().await.map_err(debug)?;
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Event::TalkRequest(request) = event {
                let answer = match request.protocol() {
                    b"echo" => request.body().to_vec(),
                    _ => vec![],
                };
                let _ = request.respond(answer);
            }
        }
    });
    for record in f.bootnodes {
        node.add_enr(record).map_err(debug)?;
        tokio::spawn(node.find_node(NodeId::random()));
    }
    println!("{}", node.local_enr().to_base64());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match command(&node, &line).await {
            Ok(answer) => println!("ok {answer}"),
            Err(e) => println!("err {}", e.to_string().replace('\n', " ")),
        }
    }
    Ok(())
}

async fn command(node: &Discv5, line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["enr"] => Ok(node.local_enr().to_base64()),
        ["ping", record] => {
            let pong = node.send_ping(parse(record)?).await.map_err(debug)?;
            Ok(format!("{} {} {}", pong.enr_seq, pong.ip, pong.port))
        }
        ["findnode", record, distances] => {
            let distances: std::result::Result<Vec<u64>, _> =
                distances.split(',').map(str::parse).collect();
            let found = node.find_node_designated_peer(parse(record)?, distances?);
            Ok(ids(found.await.map_err(debug)?))
        }
        ["talk", record, protocol, ref payload @ ..] => {
            let contact = NodeContact::try_from_enr(parse(record)?, IpMode::Ip4).map_err(debug)?;
            let body = hex::decode(payload.concat())?;
            let answer = node.talk_req(contact, protocol.as_bytes().to_vec(), body);
            Ok(hex::encode(answer.await.map_err(debug)?))
        }
        ["lookup", id] => Ok(ids(node.find_node(node_id(id)?).await.map_err(debug)?)),
        ["request", record] => {
            let found = node.find_node_designated_peer(parse(record)?, vec![0]);
            let found = found.await.map_err(debug)?;
            Ok(found.first().ok_or("no record")?.to_base64())
        }
        ["knows", id] => {
            let record = node.find_enr(&node_id(id)?).ok_or("not known")?;
            Ok(record.seq().to_string())
        }
        ["set", key, value] => {
            let value = hex::decode(value)?;
            node.enr_insert(key, &value.as_slice()).map_err(debug)?;
            Ok(node.local_enr().to_base64())
        }
        _ => Err(format!("unknown command {line:?}").into()),
    }
}

fn parse(text: &str) -> Result<Enr> {
    text.parse::<Enr>().map_err(Into::into)
}

fn node_id(text: &str) -> Result<NodeId> {
    let bytes = hex::decode(text)?;
    Ok(NodeId::parse(&bytes).map_err(debug)?)
}

fn ids(found: Vec<Enr>) -> String {
    let mut words = vec![found.len().to_string()];
    words.extend(found.iter().map(|r| hex::encode(r.node_id().raw())));
    words.join(" ")
}

fn debug<E: std::fmt::Debug>(e: E) -> String {
    format!("{e:?}")
}
