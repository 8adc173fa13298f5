//! The drill: backends and the primary are killed while several write through both backends. Nothing that was
//! acknowledged is lost, and writing goes on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dirless_testkit::Postgres;

use crate::process::{Server, exchange};
use crate::processes::{ask, enrol, on};

const WRITERS: usize = 4;

/// What the writers share with who kills.
#[derive(Default)]
struct Drill {
    addresses: Mutex<Vec<String>>,
    acknowledged: Mutex<Vec<String>>,
    count: AtomicUsize,
    stop: AtomicBool,
}

impl Drill {
    /// Writes one setting after the other, at one backend and the next in turn.
    fn write(&self, writer: usize) {
        for number in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let address = {
                let all = self.addresses.lock().unwrap();
                all[(writer + number) % all.len()].clone()
            };
            let key = format!("w{writer}-{number}");
            let body = format!(r#"{{"key":"{key}","value":"{number}"}}"#);
            let headers = "X-Tenant-ID: t1\r\nContent-Type: application/json\r\n";
            if let Some((200, _)) = exchange(&address, "POST", "/v1/admin/settings", headers, &body) {
                self.acknowledged.lock().unwrap().push(key);
                self.count.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Waits until so many more writes were acknowledged.
    fn more(&self, writes: usize) -> Duration {
        let (begun, before) = (Instant::now(), self.count.load(Ordering::SeqCst));
        while self.count.load(Ordering::SeqCst) < before + writes {
            assert!(begun.elapsed() < Duration::from_secs(60), "writing did not go on");
            std::thread::sleep(Duration::from_millis(5));
        }
        begun.elapsed()
    }
}

fn kill(mut server: Server) {
    server.child.kill().unwrap();
    server.child.wait().unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_when_backends_and_the_primary_are_killed() {
    let mut primary = Postgres::start().unwrap();
    let _own = primary.database("d").unwrap();
    let standby = primary.synchronous_standby().unwrap();
    let url = Postgres::url_of(&[&primary, &standby], "d");
    let ((one, _a), (two, _b)) = (on(&url), on(&url));
    enrol(&one, "t1");
    let drill = Drill::default();
    *drill.addresses.lock().unwrap() = vec![one.address.clone(), two.address.clone()];
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let drill = &drill;
            scope.spawn(move || drill.write(writer));
        }
        drill.more(40);
        kill(one);
        drill.more(40);
        let (again, _c) = on(&url);
        *drill.addresses.lock().unwrap() = vec![again.address.clone(), two.address.clone()];
        drill.more(40);
        primary.kill().unwrap();
        standby.promote().unwrap();
        let resumed = drill.more(40);
        println!("writing went on {resumed:?} after the standby was promoted");
        drill.stop.store(true, Ordering::SeqCst);
        drop(again);
    });
    let stored = standby.sql("d", "SELECT key FROM settings").unwrap();
    let stored: std::collections::BTreeSet<&str> = stored.lines().collect();
    let acknowledged = drill.acknowledged.lock().unwrap();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|key| !stored.contains(key.as_str()))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    let twice = "SELECT count(*) FROM (SELECT details FROM audit WHERE action = 'setting.put' \
                 GROUP BY details HAVING count(*) > 1) AS twice";
    assert_eq!(standby.sql("d", twice).unwrap().trim(), "0");
    let health = ask(&two, "GET", "/v1/health", "", "");
    assert_eq!(health.0, 200, "{}", health.1);
}
