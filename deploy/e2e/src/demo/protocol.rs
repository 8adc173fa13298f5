//! The two steps that differ by protocol: how a tenant begins, and how a host comes in.

use dirless_testkit::Program;

use super::tell;
use crate::site::{BACKEND, Site, private};
use crate::story::Story;

/// What the syncer says to hosts, and how they know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Hosts believe what the tenant's own keys signed.
    Signed,
    /// Hosts believe the backend, as deployed programs do.
    Classic,
}

/// Of the root keys.
const PASSPHRASE: &str = "/srv/operator/passphrase";
/// An operator's token for the backend.
const TOKEN: &str = "/srv/operator/token";

impl Protocol {
    /// Whom hosts believe, for the story.
    #[must_use]
    pub fn believed(self) -> &'static str {
        match self {
            Self::Signed => "hosts believe what the tenant's own keys signed",
            Self::Classic => "the classic protocol: hosts believe the backend",
        }
    }

    pub(super) fn site(self) -> anyhow::Result<Site> {
        match self {
            Self::Signed => Site::signed(),
            Self::Classic => Site::new(),
        }
    }

    /// Makes the tenant and publishes for the first time.
    pub(super) fn begin(self, story: &mut Story, site: &Site) -> anyhow::Result<()> {
        match self {
            Self::Signed => begin_signed(story, site)?,
            Self::Classic => drop(tell(story, "dirless-syncer enroll", site.syncer()?.arg("enroll"))?),
        }
        tell(story, "dirless-syncer once", site.syncer()?.arg("once"))?;
        story.found("people read from AWS with credentials, region and account of the EC2 instance (IMDSv2)");
        Ok(())
    }

    /// Brings this host into the tenant.
    pub(super) fn join(self, story: &Story, site: &Site) -> anyhow::Result<()> {
        match self {
            Self::Signed => join_signed(story, site),
            Self::Classic => enroll(story, site),
        }
    }

    /// Checks what the backend serves, as a host would and more.
    pub(super) fn verify(self, story: &mut Story, site: &Site) -> anyhow::Result<()> {
        if self == Self::Classic {
            return Ok(());
        }
        let (roots, tenant) = site.tenant()?;
        let url = format!("http://{BACKEND}/v2/{tenant}");
        let verify = Program::ours("dirless")?.args(["verify", &url, "--token-file", TOKEN, "--roots", &roots]);
        tell(
            story,
            "dirless verify http://…/v2/TENANT --token-file token --roots …",
            verify,
        )?;
        story.found("every policy, head, manifest and body at the backend is signed by the tenant's own keys");
        Ok(())
    }
}

fn begin_signed(story: &mut Story, site: &Site) -> anyhow::Result<()> {
    let token =
        Program::ours("dirless-backend")?.args(["token", "create", "--label", "operator", "--scope", "tenants"]);
    story.command("dirless-backend token create --label operator --scope tenants > token");
    private(TOKEN, &token.succeed()?)?;
    let lines = site.syncer()?.args(["signing", "init", "syncer-1"]);
    let lines = tell(story, "dirless-syncer signing init syncer-1 | tee syncer-1", lines)?;
    private("/srv/operator/syncer-1", &lines)?;
    // Typed at the terminal by a person, and slower to try: both for the sake of time.
    private(PASSPHRASE, "correct horse battery staple\n")?;
    let url = format!("http://{BACKEND}");
    let init = Program::ours("dirless")?
        .args(["tenant", "init", "/srv/operator/acme", "--keys", "/srv/operator/keys"])
        .args([
            "--syncer",
            "/srv/operator/syncer-1",
            "--backend",
            &url,
            "--token-file",
            TOKEN,
        ])
        .args([
            "--signed",
            "/srv/operator/signed.toml",
            "--passphrase-file",
            PASSPHRASE,
            "--work",
            "10",
        ]);
    let shown =
        "dirless tenant init acme --keys keys --syncer syncer-1 --backend URL --token-file token --signed signed.toml";
    let said = init.succeed()?;
    story.command(shown);
    // The recovery sheet is a page of its own.
    let told = ["tenant ", "root finger", "threshold ", "wrote", "policy", "publisher"];
    for line in said
        .lines()
        .filter(|line| told.iter().any(|word| line.starts_with(word)))
    {
        story.output(line);
    }
    story.command("cat signed.toml >> /etc/dirless/dirless-syncer.toml");
    let table = std::fs::read_to_string("/srv/operator/signed.toml")?;
    story.output(table.trim());
    site.append(&table)?;
    story.found(
        "three root keys, each under a passphrase, say who may publish; none of them is on the syncer or the backend",
    );
    Ok(())
}

fn join_signed(story: &Story, site: &Site) -> anyhow::Result<()> {
    let code = site.syncer()?.args(["join-code", "create", "--out", "/srv/web.code"]);
    tell(story, "dirless-syncer join-code create --out web.code", code)?;
    let join = Program::ours("dirless")?.args(["join", "--code-file", "/srv/web.code"]);
    tell(story, "dirless join --code-file web.code", join)?;
    // A syncer that runs as a service does it within seconds.
    tell(story, "dirless-syncer once", site.syncer()?.arg("once"))?;
    Ok(())
}

fn enroll(story: &Story, site: &Site) -> anyhow::Result<()> {
    let server = format!("http://{BACKEND}");
    let key = Site::age_key();
    let enroll = Program::ours("dirless")?
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", site.metadata_url())
        .args(["enroll", "--server", &server, "--token-file", "/srv/syncer/token"])
        .arg("--age-key")
        .arg(&key);
    let shown = format!("dirless enroll --server {server} --token-file token --age-key age.key");
    tell(story, &shown, enroll).map(drop)
}
