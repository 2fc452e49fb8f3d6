import java.net.*;
import java.nio.file.*;
import java.util.stream.*;

class Main {
    public static void main(String[] arguments) throws Exception {
        ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
        Thread thread = new Thread(() -> {
            try (Socket client = new Socket(InetAddress.getLoopbackAddress(), server.getLocalPort())) {
                client.getOutputStream().write(42);
            } catch (Exception error) {
                error.printStackTrace();
            }
        });
        thread.start();
        int got = server.accept().getInputStream().read();
        thread.join();
        Process child = new ProcessBuilder("echo", "child").start();
        long sum = IntStream.range(0, 100000).parallel().asLongStream().sum();
        Files.writeString(Path.of("file"), "x");
        if (got != 42 || child.waitFor() != 0 || sum != 4999950000L) {
            System.exit(1);
        }
    }
}
