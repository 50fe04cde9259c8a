//! Applications' handlers, routes and hooks in a server in memory, as a user tests them.

#![cfg(feature = "testing")]

use std::time::Duration;

use longwire_client::{Client, Error};
use longwire_server::testing::serve;
use longwire_server::{HandlerResult, Rejection, Request, Serve, Server, Socket};

async fn lobby(mut ws: Socket, request: Request) -> HandlerResult {
    let name = request.data::<String>().cloned().unwrap_or_default();
    ws.join("lobby")?;
    while let Some(message) = ws.recv().await? {
        ws.hub().publish("lobby", format!("{name}: {message}"));
    }
    Ok(())
}

/// An application: what its `main` and its tests share.
fn app(server: Server) -> Serve {
    server
        .authorize(|admission| async move {
            match admission.query("name").map(std::borrow::Cow::into_owned) {
                Some(name) => Ok(admission.with_data(name)),
                None => Err(Rejection::unauthorized("Bearer")),
            }
        })
        .route("/lobby", lobby)
        .expect("the path is valid")
        .serve(|_, _| async {})
}

#[tokio::test(start_paused = true)]
async fn routes_hooks_and_rooms_are_tested_without_a_network() {
    let server = serve(app);
    let connect = async |url| Client::new(url).handshake_over(server.connect()).await;
    let (mut ada, _) = connect("ws://test/lobby?name=Ada").await.unwrap();
    let (mut grace, _) = connect("ws://test/lobby?name=Grace").await.unwrap();
    while server.handle().hub().room("lobby").len() < 2 {
        tokio::task::yield_now().await;
    }
    ada.send("hello").await.unwrap();
    assert_eq!(grace.recv().await.unwrap(), Some("Ada: hello".into()));
    let refused = connect("ws://test/lobby").await.map(drop).unwrap_err();
    assert!(matches!(&refused, Error::UnexpectedResponse { response, .. } if response.status() == 401));
    let (mut elsewhere, _) = connect("ws://test/?name=Ada").await.unwrap();
    assert_eq!(elsewhere.recv().await.unwrap(), None);

    // The end of the server closes its clients.
    drop(server);
    let error = loop {
        match ada.recv().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(error.unwrap(), None, "1001 is a clean end");
    assert_eq!(u16::from(ada.close_received().unwrap().code), 1001);
}

#[tokio::test(start_paused = true)]
async fn a_connection_to_a_server_that_has_ended_ends() {
    let server = serve(app);
    server.handle().shutdown().await;
    let client = Client::new("ws://test/lobby?name=Ada");
    let connecting = client.handshake_over(server.connect());
    let outcome = tokio::time::timeout(Duration::from_secs(60), connecting).await.expect("it ends");
    assert!(outcome.is_err());
}

#[test]
fn a_request_can_be_made_by_hand() {
    let head = http::Request::get("/rooms/tea?token=abc").header("cookie", "id=7").body(()).unwrap();
    let request = Request::from(head);
    assert_eq!(request.query("token").as_deref(), Some("abc"));
    assert_eq!((request.cookie("id"), request.peer_addr(), request.is_secure()), (Some("7"), None, false));
}
