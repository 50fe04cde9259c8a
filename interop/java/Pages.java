// Fetches pages with the JDK's HttpClient and its default settings: it asks to upgrade to HTTP/2 with
// `Upgrade: h2c`.
//
// java interop/java/Pages.java URL..

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

public class Pages {
    public static void main(String[] urls) throws Exception {
        var client = HttpClient.newHttpClient();
        for (var url : urls) {
            for (var method : new String[] {"GET", "HEAD"}) {
                var request = HttpRequest.newBuilder(URI.create(url))
                    .timeout(Duration.ofSeconds(20))
                    .method(method, BodyPublishers.noBody())
                    .build();
                var response = client.send(request, BodyHandlers.ofByteArray());
                System.out.println(method + " " + url + " " + response.statusCode() + " " + response.body().length);
            }
        }
    }
}
