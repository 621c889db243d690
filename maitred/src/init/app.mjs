// Answers /NAME?guest=Ada. AWS Lambda runs this file as it is.

export const handler = async (event, context) => {
  const guest = event.queryStringParameters?.guest ?? "world";
  console.log(`hello to ${guest}`); // a line of the gateway's log
  return {
    statusCode: 200,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ message: `Hello, ${guest}!` }),
  };
};
