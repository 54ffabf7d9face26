//! Other people's clients: they accept the chain, resume, and say what is expected when they do
//! not have the CA. A program that is not installed is skipped, and the test says so.

use crate::tls_kit::{self, Gateway, gateway, host, release, run, serve, text, write_pem};
use portcullis::tls::{AlpnSet, ClientFailure, client_failure};

/// A program, and its arguments for a port and a file of roots.
type Client = (&'static str, fn(u16, &str) -> Vec<String>);

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn node(port: u16, ca: &str) -> Vec<String> {
    let script = format!(
        "require('https').get({{host:'127.0.0.1',port:{port},servername:'example.com',\
         ca:require('fs').readFileSync('{ca}')}},r=>r.pipe(process.stdout))\
         .on('error',e=>{{console.error(e);process.exitCode=1}})"
    );
    vec!["-e".to_owned(), script]
}

fn python(port: u16, ca: &str) -> Vec<String> {
    let script = format!(
        "import ssl,socket\n\
         c=ssl.create_default_context(cafile='{ca}')\n\
         s=c.wrap_socket(socket.create_connection(('127.0.0.1',{port})),server_hostname='example.com')\n\
         s.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n')\n\
         print(s.recv(4096)+s.recv(4096))"
    );
    vec!["-c".to_owned(), script]
}

const CLIENTS: [Client; 5] = [
    ("curl", |port, ca| {
        words(&format!(
            "-sS --noproxy * --cacert {ca} --resolve example.com:{port}:127.0.0.1 https://example.com:{port}/"
        ))
    }),
    ("openssl", |port, ca| {
        words(&format!(
            "s_client -quiet -connect 127.0.0.1:{port} -servername example.com -verify_hostname example.com -verify_return_error -no-CApath -no-CAstore -CAfile {ca}"
        ))
    }),
    ("gnutls-cli", |port, ca| {
        words(&format!(
            "--x509cafile={ca} --verify-hostname=example.com --sni-hostname=example.com -p {port} 127.0.0.1"
        ))
    }),
    ("node", node),
    ("python3", python),
];

/// Serves one connection for `example.com` to a client; what it printed and what the server saw.
fn visit(
    gateway: &Gateway,
    (program, arguments): Client,
    ca: &str,
) -> Option<(String, std::io::Result<tls_kit::Served>)> {
    let config = gateway.intercept.config(&host("example.com"), AlpnSet::Http1).unwrap();
    let (address, server) = serve(config);
    let arguments = arguments(address.port(), ca);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = run(program, &arguments, "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n");
    release(address);
    let output = output?;
    Some((text(&output), server.join().unwrap()))
}

#[test]
fn clients_with_the_ca_accept_the_leaf() {
    let gateway = gateway();
    let bundle = gateway.ca.write_bundle(gateway.dir.path(), &[]).unwrap().display().to_string();
    for client in CLIENTS {
        let Some((output, served)) = visit(&gateway, client, &bundle) else { continue };
        let served = served.unwrap_or_else(|e| panic!("{}: {e}\n{output}", client.0));
        assert_eq!(served.sni.as_deref(), Some("example.com"), "{}", client.0);
        assert!(output.contains("ok"), "{}: {output}", client.0);
    }
}

#[test]
fn clients_without_the_ca_refuse_and_most_say_so() {
    let (gateway, other) = (gateway(), gateway());
    for client in CLIENTS {
        let Some((output, served)) = visit(&gateway, client, &other.ca_file()) else { continue };
        let error = served.err().unwrap_or_else(|| panic!("{} went on: {output}", client.0));
        // Node verifies after the handshake, and closes without a word.
        let expected = match client.0 {
            "node" => ClientFailure::Other,
            _ => ClientFailure::DistrustsCa,
        };
        assert_eq!(client_failure(&error), expected, "{}: {error}\n{output}", client.0);
    }
}

#[test]
fn openssl_verifies_strictly_and_sees_the_name() {
    let gateway = gateway();
    let leaf = gateway.dir.path().join("leaf.pem").display().to_string();
    for name in ["example.com", "192.0.2.1", "2001:db8::1"] {
        let minted = gateway.intercept.leaves().leaf(&host(name)).unwrap();
        write_pem(leaf.as_ref(), &minted.cert[0]);
        let named = if name.contains(".com") { "-verify_hostname" } else { "-verify_ip" };
        let ca = gateway.ca_file();
        let purpose = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", &ca];
        let Some(output) = run("openssl", &[&purpose[..], &[named, name, &leaf]].concat(), "")
        else {
            return;
        };
        assert!(output.status.success(), "{name}: {}", text(&output));
    }
    let show = ["x509", "-noout", "-fingerprint", "-sha256", "-in", &gateway.ca_file()];
    let output = run("openssl", &show, "").unwrap();
    assert!(text(&output).contains(&gateway.ca.fingerprint()), "{}", text(&output));
}

#[test]
fn openssl_resumes_in_tls_1_3_and_1_2() {
    let gateway = gateway();
    let session = gateway.dir.path().join("session").display().to_string();
    for version in ["-tls1_3", "-tls1_2"] {
        for (option, resumed) in [("-sess_out", false), ("-sess_in", true)] {
            let (address, server) = serve(gateway.config("example.com"));
            let at = address.to_string();
            let connect = ["s_client", "-connect", &at, "-servername", "example.com"];
            let keep = ["-quiet", version, option, &session];
            let request = "GET / HTTP/1.1\r\n\r\n";
            let output = run("openssl", &[&connect[..], &keep[..]].concat(), request);
            release(address);
            let Some(output) = output else { return };
            let served = server.join().unwrap().unwrap();
            assert_eq!(served.resumed, resumed, "{version} {option}: {}", text(&output));
        }
    }
}
