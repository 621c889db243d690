//! A small web service on `lambda_http`, which finds out by itself which kind of event it is given.

use lambda_http::{Body, Error, Request, RequestExt, Response, run, service_fn};

async fn answer(request: Request) -> Result<Response<Body>, Error> {
    let name = request.query_string_parameters_ref().and_then(|query| query.first("name")).unwrap_or("nobody").to_owned();
    let said = format!("{} {} for {name}: {} bytes", request.method(), request.uri().path(), request.body().len());
    let response = Response::builder().status(201).header("x-made-by", "lambda_http").header("content-type", "text/plain");
    Ok(response.body(said.into())?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(answer)).await
}
