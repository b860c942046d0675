//! How servers put an answer on the wire: every way that HTTP/1.1 knows, and bytes that are no HTTP at all.

use std::io::Write as _;
use std::net::TcpListener;
use std::thread;

use super::super::error::Kind;
use super::super::fake::Frame;
use super::{Fake, Format, Given, hold};

/// An answer given byte by byte, its head included.
fn raw(bytes: impl Into<Vec<u8>>) -> Given {
    Given::bare(0, bytes).framed(Frame::Raw)
}

#[test]
fn a_body_ends_with_its_last_chunk_its_length_or_the_connection() {
    for format in Format::ALL {
        for frame in [Frame::Chunks, Frame::Length, Frame::Connection] {
            for size in [1, 100, 1 << 20] {
                let server = Fake::start(vec![
                    Given::stream(format.hello()).framed(frame).in_pieces(size),
                    Given::json(200, &format.whole().to_string()).framed(frame).in_pieces(size),
                ]);
                for what in ["stream", "whole"] {
                    hold(format.table(&server.url)).assert_hello(&format!("{format:?} {what} {size}"));
                }
            }
        }
    }
}

#[test]
fn chunks_may_have_extensions_and_trailers() {
    for format in Format::ALL {
        let hello = format.hello();
        let (first, second) = hello.split_at(hello.len() / 2);
        let answer = format!(
            "HTTP/1.1 200 OK\r\nDate: today\r\nConnection: keep-alive\r\nCONTENT-TYPE:text/event-stream\r\n\
             Transfer-Encoding: Chunked\r\nX-Empty:\r\n\r\n{:X};name=value\r\n{first}\r\n{:04x}\r\n{second}\r\n0\r\n\
             X-Trailer: 1\r\n\r\n",
            first.len(),
            second.len()
        );
        let server = Fake::start(vec![raw(answer.clone()), raw(answer).in_pieces(3)]);
        for pieces in ["at once", "in pieces"] {
            hold(format.table(&server.url)).assert_hello(&format!("{format:?} {pieces}"));
        }
    }
}

#[test]
fn an_interim_answer_is_no_answer() {
    for format in Format::ALL {
        let body = format.whole().to_string();
        for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"] {
            let answer = format!(
                "{interim}HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let server = Fake::start(vec![raw(answer)]);
            hold(format.table(&server.url)).assert_hello(&format!("{format:?} {interim}"));
        }
    }
}

#[test]
fn less_than_was_announced_is_an_error_of_the_network() {
    for format in Format::ALL {
        let body = format.whole().to_string();
        let hello = &format.hello()[..60];
        for given in [
            Given::json(200, &body).framed(Frame::Length).cut(),
            Given::stream(hello).framed(Frame::Length).cut(),
            Given::stream(hello).framed(Frame::Connection),
            raw(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nfff\r\n{hello}"
            )),
            raw(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n{hello}"
            )),
        ] {
            let server = Fake::start(vec![given]);
            let seen = hold(format.table(&server.url));
            let error = seen.assert_retried_soon(&format!("{format:?}"));
            assert_eq!((error.kind, error.kind.exit_code()), (Kind::Network, 14), "{format:?}: {error}");
        }
    }
}

#[test]
fn bytes_that_are_no_http_are_an_error_of_the_network() {
    for format in Format::ALL {
        for bytes in [
            &b""[..],
            b"\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\x15\x03\x03\x00\x02\x02\x50",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        ] {
            let server = Fake::start(vec![raw(bytes)]);
            let seen = hold(format.table(&server.url));
            let what = format!("{format:?} {}", String::from_utf8_lossy(bytes));
            let error = seen.assert_retried_soon(&what);
            assert_eq!((error.kind, error.status), (Kind::Network, None), "{what}: {error}");
            assert!(error.message.contains("127.0.0.1"), "{what}: {error}");
        }
    }
}

#[test]
fn a_server_without_tls_behind_an_https_address_is_an_error_of_the_network() {
    for format in Format::ALL {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        thread::spawn(move || listener.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap());
        let seen = hold(format.table(&url));
        let error = seen.assert_retried_soon(&format!("{format:?}"));
        assert_eq!((error.kind, error.status), (Kind::Network, None), "{format:?}: {error}");
        assert!(error.message.contains("127.0.0.1"), "{format:?}: {error}");
    }
}
