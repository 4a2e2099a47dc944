import java.io.*;
import java.nio.file.*;
import java.security.MessageDigest;
import java.util.*;
import java.util.zip.*;

/** Prints, for each ZIP in a folder and each of Java's two readers, the names and digests of its files. */
public class Readers {
    public static void main(String[] arguments) throws Exception {
        for (File file : new File(arguments[0]).listFiles()) {
            print(file, "ZipFile", () -> {
                List<String> lines = new ArrayList<>();
                try (ZipFile zip = new ZipFile(file)) {
                    for (ZipEntry entry : Collections.list(zip.entries()))
                        if (!entry.isDirectory()) lines.add(line(entry, zip.getInputStream(entry)));
                }
                return lines;
            });
            print(file, "ZipInputStream", () -> {
                List<String> lines = new ArrayList<>();
                try (ZipInputStream zip = new ZipInputStream(new FileInputStream(file))) {
                    for (ZipEntry entry; (entry = zip.getNextEntry()) != null; )
                        if (!entry.isDirectory()) lines.add(line(entry, zip));
                }
                return lines;
            });
        }
    }

    interface Reading { List<String> read() throws Exception; }

    static void print(File file, String reader, Reading reading) {
        try {
            for (String line : reading.read()) System.out.println(file.getName() + "\t" + reader + "\t" + line);
        } catch (Exception error) {
            System.out.println(file.getName() + "\t" + reader + "\trefused\t" + error.getMessage());
        }
    }

    static String line(ZipEntry entry, InputStream content) throws Exception {
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(content.readAllBytes());
        return HexFormat.of().formatHex(entry.getName().getBytes("UTF-8")) + "\t" + HexFormat.of().formatHex(digest);
    }
}
