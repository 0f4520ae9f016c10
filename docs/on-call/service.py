"""The service of docs/on-call.md: it answers uploads, and its clients send them.

service.py serve read|forget   answers; `forget` closes without reading the whole upload
service.py load SECONDS        uploads for so long, five a second
"""
import socket
import sys
import time

PORT = 8080


def serve(reads: bool) -> None:
    listener = socket.create_server(("127.0.0.1", PORT), backlog=64)
    while True:
        connection, _ = listener.accept()
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        if reads:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        connection.close()


def load(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client = socket.create_connection(("127.0.0.1", PORT))
        try:
            client.sendall(b"POST /upload HTTP/1.1\r\n" + b"x" * 60000)
            client.shutdown(socket.SHUT_WR)
            client.recv(1024)
        except OSError:
            pass
        client.close()
        time.sleep(0.2)


if sys.argv[1] == "serve":
    serve(sys.argv[2] == "read")
else:
    load(float(sys.argv[2]))
